"""The public names are one frozen list, and getting at them costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib

import pytest

import pl_hybridjobs
from tests.house.source import ROOT

HEAVY = [
    "boto3",
    "botocore",
    "cloudpickle",
    "jax",
    "matplotlib",
    "numba",
    "numpy",
    "optax",
    "pandas",
    "pennylane",
    "scipy",
    "torch",
]

PUBLIC_NAMES = [
    "hybrid_job",
    "submit_script",
    "Job",
    "Sweep",
    "Plan",
    "Resources",
    "Budget",
    "Status",
    "open_job",
    "list_jobs",
    "open_sweep",
    "grid",
    "random_search",
    "uniform",
    "loguniform",
    "current_job",
    "job_device",
    "spread_device",
    "log_metric",
    "log_metrics",
    "save_checkpoint",
    "load_checkpoint",
    "save_result",
    "input_path",
    "results_dir",
    "train",
    "training_loop",
    "errors",
]


def test_the_public_names_are_these():
    assert sorted(pl_hybridjobs.__all__) == sorted(PUBLIC_NAMES)


def test_dir_lists_them():
    assert set(PUBLIC_NAMES) <= set(dir(pl_hybridjobs))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="hybridjob"):
        pl_hybridjobs.hybridjob  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_explains_itself(name):
    public = getattr(pl_hybridjobs, name)

    text = inspect.getdoc(public) or ""
    assert len(text) > 20
    assert not text.startswith(f"{name}("), "that is the text that dataclass makes up"


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_the_public_methods_of_a_public_class_explain_themselves(name):
    public = getattr(pl_hybridjobs, name)
    if not inspect.isclass(public):
        assert not name[0].isupper()
        return

    silent = [
        member
        for member, value in inspect.getmembers(public)
        if not member.startswith("_")
        and (inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, property))
        and not inspect.getdoc(value)
    ]
    assert not silent


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert pl_hybridjobs.__version__ == project["version"]


TOUCH_ALL = "import pl_hybridjobs\nfor name in pl_hybridjobs.__all__: getattr(pl_hybridjobs, name)"
HELP = """
sys.argv = ["hybridjobs", "--help"]
from pl_hybridjobs.cli import main
try:
    code = main()
except SystemExit as end:
    code = end.code
assert not code, code
"""
DECORATE = """
from pl_hybridjobs import hybrid_job
@hybrid_job
def plain(a, b=1): ...
@hybrid_job(device="default.qubit", name="x", include=["y"], inputs={"data": "nowhere"}, retries=2, tags={"a": "b"})
def full(): ...
"""
DECORATE_WATCHED = (
    DECORATE
    + """
def watch(event, args):
    if event in ("open", "socket.connect", "subprocess.Popen", "os.mkdir", "os.listdir", "os.scandir", "import"):
        raise AssertionError(f"decorating caused {event} {args}")
sys.addaudithook(watch)
@hybrid_job(device="lightning.qubit", runner="local", include=["z"], inputs={"data": "nowhere"})
def again(): ...
plain.with_options(name="other")
"""
)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import pl_hybridjobs", id="import pl_hybridjobs"),
        pytest.param(TOUCH_ALL, id="every public name"),
        pytest.param(DECORATE, id="decorating"),
        pytest.param(HELP, id="hybridjobs --help"),
    ],
)
def test_nothing_heavy_is_loaded_by(code):
    assert _loaded_after(code) & set(HEAVY) == set()


def test_the_package_alone_does_not_load_the_command_line():
    assert _loaded_after(TOUCH_ALL) & {"rich", "click", "asyncio", "multiprocessing"} == set()


def test_decorating_reads_writes_and_imports_nothing():
    _loaded_after(DECORATE_WATCHED)


def test_a_heavy_import_would_be_seen():
    assert _loaded_after("import platformdirs") >= {"platformdirs"}


def _loaded_after(code: str) -> set[str]:
    """Top-level names in ``sys.modules`` of a fresh interpreter that ran this code."""
    report = "\nimport sys\nprint('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", "import sys\n" + code + report], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())
