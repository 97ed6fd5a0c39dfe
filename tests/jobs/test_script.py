"""Files, functions in files and packages as jobs."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from pl_hybridjobs import submit_script
from pl_hybridjobs.errors import InvalidCall, JobFailed
from pl_hybridjobs.jobs.script import prepared_script

WAIT_S = 60


@pytest.fixture
def script(tmp_path: Path) -> Path:
    files = {
        "train.py": """
            from __future__ import annotations
            import json, sys
            from near import twice
            from pl_hybridjobs import current_job, hybrid_job, results_dir

            def plain(steps: int, rates: list[float] = (), verbose: bool = False, tag: str | None = None):
                return twice(steps), list(rates), verbose, tag

            @hybrid_job(tags={"from": "decorator"})
            def decorated(n: int = 3):
                return n

            not_a_function = 5

            if __name__ == "__main__":
                (results_dir() / "seen.json").write_text(json.dumps([sys.argv[1:], dict(current_job().params), twice(4)]))
                sys.exit(int(current_job().params.get("code", 0)))
            """,
        "near.py": "def twice(x): return 2 * x\n",
        "pkg/__init__.py": "def top(): return 'top'\n",
        "pkg/work.py": "from pkg.inner import one\ndef go(n: int): return n + one()\n",
        "pkg/inner.py": "def one(): return 1\n",
        "pkg/__main__.py": "from pkg.inner import one\nfrom pl_hybridjobs import save_result\nsave_result({'one': one()})\n",
        "notes.txt": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path / "train.py"


def test_a_plain_function_gets_its_arguments_by_its_annotations(script):
    job = submit_script(script, "plain", {"steps": "4", "rates": "0.5,1", "verbose": "false", "tag": "none"})

    assert job.result(WAIT_S) == (8, [0.5, 1.0], False, None)
    assert job.params == {"steps": 4, "rates": [0.5, 1.0], "verbose": False, "tag": None}
    assert job.name == "plain"


def test_a_decorated_function_keeps_its_options(script):
    job = submit_script(script, "decorated", {"n": 5}, name="mine")

    assert (job.result(WAIT_S), job.tags, job.name) == (5, {"from": "decorator"}, "mine")


def test_a_script_runs_as_main_with_its_parameters(script):
    job = submit_script(script, params={"alpha": 0.5, "name": "x y"})
    job.result(WAIT_S)

    seen = (job.folder / "results" / "seen.json").read_text()
    assert seen == '[["--alpha", "0.5", "--name", "x y"], {"alpha": 0.5, "name": "x y"}, 8]'
    assert job.name == "train"


def test_a_script_reads_its_parameters_whole(tmp_path):
    (tmp_path / "reads.py").write_text(
        "import json, os\nfrom pl_hybridjobs import save_result\nsave_result(json.load(open(os.environ['AMZN_BRAKET_HP_FILE'])))\n"
    )
    params = {"text": "x" * 5000, "api_token": "told", "sizes": list(range(500)), "on": True}

    job = submit_script(tmp_path / "reads.py", params=params)

    assert job.result(WAIT_S) == {"text": "x" * 5000, "api_token": "told", "sizes": json.dumps(list(range(500))), "on": "true"}
    assert job.params["api_token"] == "***"


def test_a_script_that_exits_with_a_code_has_failed(script):
    with pytest.raises(JobFailed, match="SystemExit: 3"):
        submit_script(script, params={"code": 3}).result(WAIT_S)


def test_packages_run_whole_or_by_a_function(script):
    package = script.parent / "pkg"

    assert submit_script(package).result(WAIT_S) == {"one": 1}
    assert submit_script(package, "work:go", {"n": "2"}).result(WAIT_S) == 3
    assert submit_script(package, "top").result(WAIT_S) == "top"


@pytest.mark.parametrize(
    ("path", "entry", "params", "said"),
    [
        ("tarin.py", None, {}, r"there is no file .*Did you mean 'train\.py'"),
        ("notes.txt", None, {}, "no Python file"),
        (".", None, {}, "no package"),
        ("train.py", "plian", {}, r"has no 'plian'.*Did you mean 'plain'"),
        ("train.py", "not_a_function", {}, "is int, not a function"),
        ("train.py", "x:plain", {}, "function's name alone"),
        ("train.py", "plain", {}, "steps"),
        ("train.py", "plain", {"steps": "many"}, "steps"),
        ("train.py", "plain", {"steps": "1", "stps": "2"}, "stps"),
        ("pkg", "nowhere:go", {}, "no module 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_submitted(script, jobs_home, path, entry, params, said):
    with pytest.raises(InvalidCall, match=said), prepared_script(script.parent / path, entry, params, {}):
        pass
    assert not jobs_home.exists()


def test_a_lazy_import_and_a_main_script_take_their_neighbours_along(script):
    (script.parent / "lazy.py").write_text("def go():\n    import near\n    return near.twice(21)\n")

    assert submit_script(script.parent / "lazy.py", "go").result(WAIT_S) == 42


def test_two_scripts_with_neighbours_of_the_same_name_get_each_its_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.py").write_text("import neighbour\ndef f():\n    return neighbour.NAME\n")
        (tmp_path / folder / "neighbour.py").write_text(f"NAME = {folder!r}\n")

    assert [submit_script(tmp_path / folder / "train.py", "f").result(WAIT_S) for folder in ("a", "b")] == ["a", "b"]
    assert "neighbour" not in sys.modules
