"""What a call needs besides its pickle: local modules, data files, installed distributions."""

from __future__ import annotations

import ast
import gc
import inspect
import json
import os
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import bundle, dependencies, distributions, imports, packing
from tests.jobs.test_bundle import LOAD, PACK, run, write


def top(*parts):
    return "\n".join(parts)


# Imports ---------------------------------------------------------------------------------------------------------------

SOURCE = """
import a.b, c as d
from .near import x, y
from .. import up
from e import *

def f():
    import late
    try:
        import optional
    except ImportError:
        from fallback import g
    importlib.import_module("by.name")
    importlib.import_module(variable)

if TYPE_CHECKING:
    import only_types
else:
    import not_for_types

if __name__ == "__main__":
    import as_script
"""


def test_every_import_of_a_source_is_found_except_those_that_no_job_runs():
    found = imports.of_source(SOURCE.encode(), "x.py")

    assert {one.module for one in found} == {
        *("a.b", "c", "near", "", "e", "late", "optional", "fallback", "by.name", "not_for_types"),
    }


def test_threads_may_submit_at_once():
    """CPython loses count of a tree's depth where another thread parses meanwhile, which Python code in the collector makes likely."""

    def elsewhere(*_):
        time.sleep(0)

    source = inspect.getsource(dependencies).encode()
    threshold = gc.get_threshold()
    gc.callbacks.append(elsewhere)
    gc.set_threshold(200)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda _: imports.of_source(source, "a.py"), range(12)))
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(elsewhere)

    assert len(found) == 1


def test_every_import_of_a_code_object_is_found():
    code = compile(SOURCE, "x.py", "exec")

    assert imports.Import("near", ("x", "y"), 1) in imports.of_code(code)
    assert {"late", "optional", "fallback", "by.name"} <= {one.module for one in imports.of_code(code)}


def test_relative_imports_are_counted_from_the_package():
    assert imports.Import("m", ("x",), 1).targets("a.b") == ["a.b.m", "a.b.m.x"]
    assert imports.Import("", ("x",), 2).targets("a.b") == ["a", "a.x"]
    assert imports.Import("", ("x",), 3).targets("a.b") == []
    assert imports.Import("m", ("*",)).targets("a.b") == ["m"]


def test_a_source_that_does_not_parse_has_no_imports():
    assert imports.of_source(b"{{ template }} import x y", "x.py") == ()


def test_a_source_is_read_again_when_it_has_changed(tmp_path):
    path = tmp_path / "m.py"
    path.write_text("import one")
    before = dependencies.read_source(str(path)).imports
    path.write_text("import other")

    assert [one.module for one in before] == ["one"]
    assert [one.module for one in dependencies.read_source(str(path)).imports] == ["other"]


# Where modules are -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("json", "python"), ("sys", "python"), ("xml.dom", "python"), ("pytest", "installed"), ("cloudpickle", "installed")],
)
def test_modules_of_python_and_installed_ones_are_not_local(name, kind):
    found = dependencies.locate(name, distributions.installed())

    assert found is not None
    assert found.kind == kind


def test_this_package_itself_does_not_travel():
    found = dependencies.locate("pl_hybridjobs.jobs.bundle", distributions.installed())

    assert found is not None
    assert found.kind == "python"


def test_a_local_module_is_found_without_importing_it_or_its_package(tmp_path, monkeypatch):
    write(tmp_path, {"never_import_me/__init__.py": "raise SystemExit", "never_import_me/part.py": "raise SystemExit"})
    monkeypatch.syspath_prepend(tmp_path)
    found = dependencies.locate("never_import_me.part", distributions.installed())

    assert found == dependencies.Module("never_import_me.part", "local", str(tmp_path / "never_import_me" / "part.py"))
    assert "never_import_me" not in sys.modules
    assert dependencies.locate("never_import_me.nothing", distributions.installed()) is None
    assert dependencies.locate("no_such_thing_at_all", distributions.installed()) is None


# Whole calls -----------------------------------------------------------------------------------------------------------


def pack_project(tmp_path, files, function="train:go", *, path=(".",), include=(), extra=()):
    project = write(tmp_path / "project", files)
    folder = tmp_path / "bundle"
    folder.mkdir()
    module, name = function.split(":")
    roots = json.dumps([*(str(project / part) for part in path), *map(str, extra)])
    digest = run(PACK, roots, module, name, folder, "()", json.dumps(list(include)), cwd=project)
    return folder, digest


def test_third_party_imports_are_pinned_with_what_they_require(tmp_path):
    site = tmp_path / "site"
    write(
        site,
        {
            "first.py": "class Thing:\n    pass\n",
            "First_Dist-1.0.dist-info/METADATA": """\
                Name: First_Dist
                Version: 1.0
                Requires-Dist: second-dist>=1 ; python_version>'3'
                Requires-Dist: extra-dist ; extra == 'more'
                Requires-Dist: not-installed

                Requires-Dist: in-code2
                """,
            "in_code2-1.dist-info/METADATA": "",
            "First_Dist-1.0.dist-info/RECORD": "first.py,,\n",
            "second_dist-2.1+local.dist-info/METADATA": "Name: second-dist\nVersion: 2.1+local\nRequires-Dist: first-dist\n",
            "second_dist-2.1+local.dist-info/RECORD": "second.py,,\n",
            "extra_dist-3.0.dist-info/METADATA": "Name: extra-dist\nVersion: 3.0\n",
            "in_code-4.0.dist-info/METADATA": "Name: in-code\nVersion: 4.0\n",
            "in_code-4.0.dist-info/top_level.txt": "inside\n",
            "inside/__init__.py": "",
            "in_helper-5.0.dist-info/METADATA": "Name: in-helper\nVersion: 5.0\n",
            "in_helper-5.0.dist-info/RECORD": "helped/__init__.py,,\n",
            "helped/__init__.py": "",
        },
    )
    files = {
        "train.py": "import near\nfrom first import Thing\n\ndef go():\n    import inside\n    return near, Thing\n",
        "near.py": "def f():\n    import helped\n",
    }
    folder, _ = pack_project(tmp_path, files, extra=[site])
    manifest = bundle.verify(folder)
    lines = (folder / "requirements.lock").read_text().splitlines()[1:]

    assert {"first-dist": "1.0", "in-code": "4.0", "in-helper": "5.0"}.items() <= manifest["packages"].items()
    assert [line for line in lines if not line.startswith("cloudpickle")] == [
        "first-dist==1.0",
        "in-code==4.0",
        "in-helper==5.0",
        "second-dist==2.1+local",
    ]
    assert manifest["needs"] == ["cloudpickle", "first-dist"]
    assert not list((folder / "src").rglob("first.py"))


def test_vcs_and_local_installs_are_said_as_such(tmp_path):
    def origin(**what):
        return json.dumps(what)

    site = tmp_path / "site"
    write(
        site,
        {f"{name}.py": "" for name in ("from_git", "from_folder", "from_url")}
        | {
            "from_git-1.0.dist-info/direct_url.json": origin(
                url="https://me:pw@git.example.org/x.git", vcs_info={"vcs": "git", "commit_id": "abc123"}, subdirectory="py"
            ),
            "from_folder-1.0.dist-info/direct_url.json": origin(url="file:///srv/x", dir_info={}),
            "from_url-1.0.dist-info/direct_url.json": origin(url="https://example.org/x.whl", archive_info={}),
        },
    )
    files = {"train.py": "def go():\n    import from_git, from_folder, from_url\n"}
    folder, _ = pack_project(tmp_path, files, extra=[site])
    lines = [line for line in (folder / "requirements.lock").read_text().splitlines()[1:] if "cloudpickle" not in line]

    assert lines == [
        "# from-folder==1.0: installed from file:///srv/x, which no other machine has",
        "from-git @ git+https://git.example.org/x.git@abc123#subdirectory=py",
        "from-url @ https://example.org/x.whl",
    ]


def test_the_source_of_an_editable_install_travels_and_its_requirements_are_pinned(tmp_path):
    site = tmp_path / "lib" / "site-packages"
    source = write(tmp_path / "my code" / "src", {"edible/__init__.py": "from edible import part\n", "edible/part.py": "N = 5\n"})
    url = (tmp_path / "my code").as_uri()
    write(
        site,
        {
            "edible-0.1.dist-info/METADATA": "Name: edible\nVersion: 0.1\nRequires-Dist: second\n",
            "edible-0.1.dist-info/direct_url.json": json.dumps({"url": url, "dir_info": {"editable": True}}),
            "second-2.0.dist-info/METADATA": "Name: second\nVersion: 2.0\n",
        },
    )
    files = {"train.py": "import edible\n\ndef go():\n    return edible.part.N\n"}
    folder, digest = pack_project(tmp_path, files, extra=[site, source])
    lock = (folder / "requirements.lock").read_text()

    assert f"# edible==0.1: an editable install of {url}; the modules that are reached travel in src/\n" in lock
    assert "second==2.0\n" in lock
    (tmp_path / "my code").rename(tmp_path / "gone")
    assert run(LOAD, folder, digest) == "5"


def test_a_compiled_module_stays_and_is_noted(tmp_path, monkeypatch):
    suffix = dependencies._COMPILED[0]
    write(tmp_path, {"fastpkg/__init__.py": "", f"fastpkg/core{suffix}": "not really", "uses_fast.py": "import fastpkg.core\n"})
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "bundle"
    folder.mkdir()

    packed = packing.pack(top, (), {}, folder, include=["uses_fast"])

    assert "fastpkg.core is compiled" in packed.notes[0]
    assert (folder / "src" / "fastpkg" / "__init__.py").exists()
    assert not (folder / "src" / "fastpkg" / f"core{suffix}").exists()


def test_a_local_module_that_shadows_one_of_python_travels(tmp_path):
    files = {"train.py": "import antigravity\n\ndef go():\n    return antigravity.N\n", "antigravity.py": "N = 3\n"}
    folder, digest = pack_project(tmp_path, files)

    assert run(LOAD, folder, digest) == "3"


# include= --------------------------------------------------------------------------------------------------------------


def test_near_names_are_offered_for_a_missing_include(tmp_path):
    (tmp_path / "table.csv").write_text("")

    (complaint,) = dependencies.look_up([str(tmp_path / "tabel.csv")]).complaints

    assert "Did you mean 'table.csv'" in complaint


def test_two_files_for_one_place_are_refused(tmp_path):
    write(tmp_path, {"a/data.csv": "1", "b/data.csv": "2"})
    folder = tmp_path / "bundle"
    folder.mkdir()

    with pytest.raises(InvalidCall, match=r"would both be src/data\.csv"):
        packing.pack(top, (), {}, folder, include=[tmp_path / "a" / "data.csv", tmp_path / "b" / "data.csv"])


def test_an_included_folder_leaves_out_caches_and_survives_links_in_a_circle(tmp_path):
    write(tmp_path / "data", {"a.csv": "1", "deep/b.csv": "2", "__pycache__/c.pyc": "", ".git/config": ""})
    (tmp_path / "data" / "deep" / "round").symlink_to(tmp_path / "data")

    found = dependencies.look_up([tmp_path / "data"])

    assert [place for place, _ in found.paths] == ["data/a.csv", "data/deep/b.csv"]


def test_an_empty_folder_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")

    empty, pipe = dependencies.look_up([tmp_path / "empty", tmp_path / "pipe"]).complaints

    assert "has no files" in empty
    assert "neither a plain file nor a folder" in pipe


def test_a_module_object_can_be_included(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    import tests.jobs.test_bundle as module

    packing.pack(top, (), {}, folder, include=[module])

    assert ast.parse((folder / "src" / "tests" / "jobs" / "test_bundle.py").read_text())


# requirements= ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    return path


def test_a_list_of_requirements_is_written_as_given(folder):
    packed = packing.pack(top, (), {}, folder, requirements=["numpy>=1", "scipy"])

    assert packed.requirements == ("numpy>=1", "scipy")
    assert (folder / "requirements.lock").read_text() == "numpy>=1\nscipy\n"
    assert bundle.verify(folder)["requirements"] == {"kind": "given", "file": "requirements.lock"}


def test_a_requirements_file_is_copied_as_it_is(folder, tmp_path):
    (tmp_path / "requirements-dev.txt").write_bytes(b"# mine\r\nnumpy>=1\r\n")
    packing.pack(top, (), {}, folder, requirements=tmp_path / "requirements-dev.txt")

    assert (folder / "requirements.lock").read_bytes() == b"# mine\r\nnumpy>=1\r\n"


@pytest.mark.parametrize(("name", "kind"), [("uv.lock", "uv.lock"), ("pylock.toml", "pylock"), ("pylock.dev.toml", "pylock")])
def test_a_lock_file_keeps_its_name(folder, tmp_path, name, kind):
    (tmp_path / name).write_text("version = 1\n")
    packed = packing.pack(top, (), {}, folder, requirements=str(tmp_path / name))

    assert (folder / name).read_text() == "version = 1\n"
    assert bundle.verify(folder, packed.digest)["requirements"] == {"kind": kind, "file": name}
    assert not (folder / "requirements.lock").exists()


def test_a_file_that_is_no_requirements_file_is_refused(folder, tmp_path):
    (tmp_path / "setup.cfg").write_text("")

    with pytest.raises(InvalidCall, match=r"setup\.cfg is none of"):
        packing.pack(top, (), {}, folder, requirements=tmp_path / "setup.cfg")


def test_a_password_in_a_requirement_is_refused_without_showing_it(folder):
    from pl_hybridjobs.errors import SecretFound

    with pytest.raises(SecretFound, match="requirements:1 looks like an address with a password") as caught:
        packing.pack(top, (), {}, folder, requirements=["--extra-index-url https://me:hunter2@example.org/simple"])
    assert "hunter2" not in str(caught.value)


def test_requirements_that_are_not_met_here_come_with_the_command():
    pytest_version = distributions.installed().by_name["pytest"].version
    wanted = ["pytest", f"pytest=={pytest_version}  # a comment", "pytest<1", "no-such-thing>=2", "what is this", "-r other.txt", ""]
    wanted += ["not-here; python_version < '3'", "# only a comment"]

    assert packing.unsatisfied(wanted) == [
        f"requirement 'pytest<1': pytest {pytest_version} is installed here; run: pip install 'pytest<1'",
        "requirement 'no-such-thing>=2': no-such-thing is not installed here; run: pip install 'no-such-thing>=2'",
        (
            "requirement 'what is this' cannot be read (Expected semicolon (after name with no version specifier) or end); "
            "write it like 'numpy>=2.0'"
        ),
    ]


def test_a_requirements_file_is_checked_like_a_list(tmp_path):
    (tmp_path / "requirements.txt").write_text("pytest\nno-such-thing\n")

    assert ["no-such-thing" in text for text in packing.unsatisfied(tmp_path / "requirements.txt")] == [True]


# Distributions ---------------------------------------------------------------------------------------------------------


def test_what_is_installed_agrees_with_importlib_metadata():
    from importlib import metadata

    ours = distributions.installed().by_name
    theirs = {distributions.normalised(dist.metadata["Name"]): dist.version for dist in metadata.distributions()}

    assert {name: dist.version for name, dist in ours.items() if name in theirs} == theirs


@pytest.mark.parametrize(("module", "name"), [("pytest", "pytest"), ("_pytest.fixtures", "pytest"), ("cloudpickle", "cloudpickle")])
def test_a_module_leads_to_its_distribution(module, name):
    assert [dist.name for dist in distributions.installed().giving(module)] == [name]


def test_parts_of_a_namespace_package_lead_to_their_own_distributions(tmp_path, monkeypatch):
    write(
        tmp_path,
        {
            "space_one-1.dist-info/RECORD": "space/one/__init__.py,,\n",
            "space_two-2.dist-info/RECORD": "space/two.py,,\n",
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    here = distributions.installed()

    assert [dist.name for dist in here.giving("space.two")] == ["space-two"]
    assert {dist.name for dist in here.giving("space")} == {"space-one", "space-two"}
    assert here.giving("spaceless") == []


def test_a_new_install_is_seen_at_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    assert "fresh-dist" not in distributions.installed().by_name
    write(tmp_path, {"fresh_dist-1.0.dist-info/METADATA": ""})

    assert distributions.installed().by_name["fresh-dist"].version == "1.0"


def test_packing_a_small_function_loads_nothing_heavy(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from pl_hybridjobs.jobs import bundle, packing
        def go(x):
            return x
        packing.pack(go, (1,), {}, Path(sys.argv[1]))
        bundle.load(Path(sys.argv[1]))
        print(*(m for m in ("numpy", "jax", "pennylane", "boto3", "torch", "importlib.metadata", "packaging") if m in sys.modules))
        """

    assert run(textwrap.dedent(code), tmp_path) == ""
    assert (tmp_path / "call.pkl").exists()


# What our own devices need -----------------------------------------------------------------------------------------------


def test_a_lock_names_what_our_devices_and_training_need_where_the_call_uses_them():
    def simulates():
        from pl_hybridjobs import job_device

        return job_device(wires=1)

    def by_name(qml):
        return qml.device("hybridjobs.qubit", wires=1)

    def logs():
        from pl_hybridjobs import log_metric

        log_metric("a", 1.0)

    def lock(fn):
        _, trace = packing._Call(fn, (), {}, None).pickled()
        found, _, _ = dependencies.observed(dependencies.gather(trace, dependencies.Includes()), trace.references)
        return {line.partition("==")[0] for line in found.lines}

    assert {"cloudpickle", "numba", "jax", "pennylane"} <= lock(simulates)
    assert "numba" in lock(by_name)
    assert "numba" not in lock(logs)
