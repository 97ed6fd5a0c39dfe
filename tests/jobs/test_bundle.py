"""Bundles, packed in one process and loaded in another that knows neither the folder nor the path of the first."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import linecache
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pl_hybridjobs
from pl_hybridjobs.errors import (
    BundleRefused,
    BundleTampered,
    BundleTooLarge,
    CannotTravel,
    EnvironmentSkew,
    InvalidCall,
    SecretFound,
)
from pl_hybridjobs.jobs import bundle, packing

PACKAGE_ROOT = Path(pl_hybridjobs.__path__[0]).parent

PACK = """
import sys, json, importlib
from pathlib import Path
from pl_hybridjobs.jobs import packing
sys.path[:0] = json.loads(sys.argv[1])
fn = importlib.import_module(sys.argv[2])
for part in sys.argv[3].split("."):
    fn = getattr(fn, part)
args = eval(sys.argv[5])
include = [Path(item) if "/" in item else item for item in json.loads(sys.argv[6])]
print(packing.pack(fn, args, {}, Path(sys.argv[4]), include=include).digest)
"""
LOAD = """
import sys, json, inspect
from pathlib import Path
from pl_hybridjobs.jobs import bundle
fn, args, kwargs = bundle.load(Path(sys.argv[1]), sys.argv[2])
print(json.dumps(fn(*args, **kwargs)))
"""


def run(code, *argv, path=(), cwd=None, **environment):
    """Run some code in a fresh Python whose only way to our package is PYTHONPATH."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(PACKAGE_ROOT)]), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, argv)], cwd=cwd, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return root


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "else where"
    folder.mkdir()
    return folder


@pytest.fixture
def there_and_back(tmp_path, elsewhere):
    """Pack a function of a local project in one process, delete the project, call it in another process."""

    def go(files, function, args="()", include=(), import_from=(".",), **environment) -> Any:
        project = write(tmp_path / "project", files)
        folder = tmp_path / "bundle"
        folder.mkdir()
        roots = json.dumps([str(project / part) for part in import_from])
        module, name = function.split(":")
        digest = run(PACK, roots, module, name, folder, args, json.dumps(list(include)), cwd=project, **environment)
        project.rename(tmp_path / "gone")
        return json.loads(run(LOAD, folder, digest, cwd=elsewhere))

    return go


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    return path


def add(a, b=10, *, c=100):
    return a + b + c


def packed_and_loaded(fn, *args, folder, **kwargs):
    digest = packing.pack(fn, args, kwargs, folder).digest
    loaded, loaded_args, loaded_kwargs = bundle.load(folder, digest)
    return loaded(*loaded_args, **loaded_kwargs)


# What travels ----------------------------------------------------------------------------------------------------------


def test_a_helper_of_a_helper_travels(there_and_back):
    files = {
        "train.py": "import near\n\ndef go(x):\n    return near.twice(x)\n",
        "near.py": "from pkg.deep import far\n\ndef twice(x):\n    return 2 * far(x)\n",
        "pkg/__init__.py": "BASE = 1\n",
        "pkg/deep/__init__.py": "from .impl import far\n",
        "pkg/deep/impl.py": "from .. import BASE\n\ndef far(x):\n    from .. import late\n    return x + BASE + late.MORE\n",
        "pkg/late.py": "MORE = 100\n",
    }
    assert there_and_back(files, "train:go", "(5,)") == 212


def test_modules_that_are_not_reached_stay_at_home(tmp_path, folder):
    files = {
        "train.py": "import near, unrelated\n\ndef go(x):\n    return near.f(x)\n",
        "near.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import only_types\n\ndef f(x):\n    return x\n",
        "unrelated.py": "import also_unrelated\n",
        "also_unrelated.py": "",
        "only_types.py": "",
    }
    project = write(tmp_path / "p", files)
    run(PACK, json.dumps([str(project)]), "train", "go", folder, "(1,)", "[]")

    assert {p.name for p in (folder / "src").rglob("*.py")} == {"train.py", "near.py"}


def test_the_function_goes_by_value_although_its_module_has_another_object_of_that_name(there_and_back):
    files = {
        "train.py": """
            class Decorated:
                def __init__(self, fn):
                    self.fn = fn

            FACTOR = 3

            def helper(x):
                return x + 1

            @Decorated
            def go(x):
                return FACTOR * helper(x)
            """
    }
    assert there_and_back(files, "train:go.fn", "(1,)") == 6


def test_a_function_of_a_namespace_package_and_a_src_layout_travels(there_and_back):
    files = {
        "src/space/tools/calc.py": "from space.other import nine\n\ndef go():\n    return nine.N\n",
        "src/space/other/nine.py": "N = 9\n",
    }
    assert there_and_back(files, "space.tools.calc:go", import_from=["src"]) == 9


def test_an_import_by_literal_name_is_followed(there_and_back):
    files = {
        "train.py": "import importlib\n\ndef go():\n    return importlib.import_module('plugin').N + __import__('second').N\n",
        "plugin.py": "import importlib\nN = importlib.import_module('third').N\n",
        "second.py": "N = 2\n",
        "third.py": "N = 3\n",
    }
    assert there_and_back(files, "train:go") == 5


def test_included_data_lands_beside_its_module(there_and_back):
    files = {
        "train.py": "from pkg import table\n\ndef go():\n    return table.read()\n",
        "pkg/__init__.py": "",
        "pkg/table.py": """
            from pathlib import Path

            def read():
                return [p.read_text() for p in sorted((Path(__file__).parent / "data").iterdir())]
            """,
        "pkg/data/a.csv": "1",
        "pkg/data/b.csv": "2",
    }
    assert there_and_back(files, "train:go", include=["./pkg/data"]) == ["1", "2"]


def test_an_included_package_comes_whole(there_and_back):
    files = {
        "train.py": "import sys\n\ndef go():\n    name = ''.join(['p', 'lug'])\n    return __import__(f'{name}.part').part.N\n",
        "plug/__init__.py": "",
        "plug/part.py": "import needs_me\nN = needs_me.N\n",
        "needs_me.py": "N = 7\n",
    }
    assert there_and_back(files, "train:go", include=["plug"]) == 7


def test_an_included_file_outside_of_packages_lands_under_its_name(tmp_path, folder):
    (tmp_path / "notes 1.txt").write_text("hello")

    packing.pack(add, (1,), {}, folder, include=[tmp_path / "notes 1.txt"])

    assert (folder / "src" / "notes 1.txt").read_text() == "hello"


def test_a_script_run_as_main_travels_and_shows_its_source(tmp_path, folder, elsewhere):
    script = """
        import sys
        from dataclasses import dataclass
        from enum import Enum
        from pathlib import Path
        from pl_hybridjobs.jobs import packing

        class Kind(Enum):
            SMALL = 1

        @dataclass
        class Config:
            size: int
            kind: Kind = Kind.SMALL

        def helper(config):
            import inspect
            assert config.kind is Kind.SMALL
            return inspect.getsource(go).splitlines()[1].strip()

        def go(config):
            return helper(config)  # this very line

        if __name__ == "__main__":
            print(packing.pack(go, (Config(3),), {}, Path(sys.argv[1])).digest)
        """
    path = write(tmp_path, {"script.py": script}) / "script.py"
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
    command = [sys.executable, path, folder]
    digest = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()
    path.write_text("# another text\n" * 100)

    assert json.loads(run(LOAD, folder, digest, cwd=elsewhere)) == "return helper(config)  # this very line"


def test_code_without_a_file_brings_the_text_that_linecache_holds(folder):
    name = "<cell 1>"
    text = "def go():\n    return 'from a notebook'\n"
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), space)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    try:
        packing.pack(space["go"], (), {}, folder)
    finally:
        del linecache.cache[name]

    loaded, _, _ = bundle.load(folder)

    assert inspect.getsource(loaded) == text
    assert linecache.cache.pop(name)


def test_partials_methods_lambdas_closures_and_callable_objects_travel(tmp_path):
    class Model:
        def __init__(self, weight):
            self.weight = weight

        def scaled(self, x):
            return self.weight * x

        def __call__(self, x):
            return self.scaled(x) + 1

    offset = 7
    cases = [
        (functools.partial(add, 1, c=3), (2,), 6),
        (Model(5).scaled, (2,), 10),
        (Model(5), (2,), 11),
        (lambda x: x + offset, (1,), 8),
        (add, (1,), 111),
        (sorted, ([3, 1],), [1, 3]),
    ]
    for i, (fn, args, expected) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        assert packed_and_loaded(fn, *args, folder=tmp_path / str(i)) == expected


def test_a_set_that_is_held_twice_stays_one_set(folder):
    def both(a, b):
        a.add("new")
        return sorted(b)

    shared = {"x", "y"}

    assert packed_and_loaded(both, shared, shared, folder=folder) == ["new", "x", "y"]
    assert shared == {"x", "y"}


def test_packing_changes_nothing_of_the_function(folder):
    def train():
        return add(1)

    before = (train.__code__, dict(train.__dict__), train.__closure__, dict(sys.modules["__main__"].__dict__))
    packing.pack(train, (), {}, folder)

    assert (train.__code__, dict(train.__dict__), train.__closure__, dict(sys.modules["__main__"].__dict__)) == before


def test_many_threads_may_pack_at_once(tmp_path):
    def train(x, numbers):
        return add(x) + len(numbers)

    def work(i):
        target = tmp_path / str(i)
        target.mkdir()
        return packing.pack(train, (1, {"a", "b"}), {}, target).digest

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(work, range(40)))

    assert len(digests) == 1


# Determinism -----------------------------------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_digest_whatever_the_hash_seed_and_with_or_without_bytecode(tmp_path):
    files = {
        "train.py": """
            import abc
            from collections import OrderedDict

            NAMES = {"alpha", "beta", "gamma", "delta"}
            NESTED = {("a", 1), ("b", frozenset({"x", "y", "z"}))}
            TYPES = {int, str, OrderedDict}

            def go(options):
                class Base(abc.ABC):
                    def f(self):
                        self.one, self.two, self.three = 1, 2, 3
                class Other: ...
                class Third: ...
                Base.register(Other); Base.register(Third)
                return options["mode"] in {"fast", "slow", "exact"} and NAMES and NESTED and TYPES

            def make():
                import abc
                class Base(abc.ABC):
                    @abc.abstractmethod
                    def f(self): ...
                    @abc.abstractmethod
                    def g(self): ...
                for name in "abcdefgh":
                    Base.register(type(name, (), {}))
                return {"base": Base, "mode": "fast", "set": {"u", "v", "w"}}
            """
    }
    project = write(tmp_path / "p", files)
    digests = set()
    for seed, write_bytecode in (("1", ""), ("2", ""), ("3", "1")):
        target = tmp_path / f"bundle{seed}"
        target.mkdir()
        code = PACK.replace("eval(sys.argv[5])", "(sys.modules['train'].make(),)")
        variables = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": write_bytecode}
        digests.add(run(code, json.dumps([str(project)]), "train", "go", target, "", "[]", **variables))

    assert len(digests) == 1


def test_the_same_call_gives_the_same_digest_a_second_time_in_one_process(tmp_path):
    class Point:
        def __init__(self):
            self.x = 1

    def train(point):
        return point.x in {1, 2}

    digests = set()
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        digests.add(packing.pack(train, (Point(),), {"names": {"a", "b"}}, tmp_path / str(i)).digest)

    assert len(digests) == 1


def test_another_argument_gives_another_digest(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()

    assert packing.pack(add, (1,), {}, tmp_path / "1").digest != packing.pack(add, (2,), {}, tmp_path / "2").digest


# Verification ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def armed(folder, tmp_path):
    """A bundle whose call, once unpickled, and whose module, once imported, leave a mark."""
    mark = tmp_path / "mark"
    write(tmp_path / "p", {"bomb.py": f"open({str(mark)!r}, 'w').close()\n\ndef go():\n    return helper()\n\ndef helper():\n    pass\n"})
    digest = run(PACK, json.dumps([str(tmp_path / "p")]), "bomb", "go", folder, "()", "[]")
    assert mark.exists()
    mark.unlink()
    return folder, digest, mark


def test_an_untouched_bundle_loads_and_imports_its_module(armed):
    folder, digest, mark = armed
    run(
        "import sys; from pathlib import Path; from pl_hybridjobs.jobs import bundle; bundle.load(Path(sys.argv[1]), sys.argv[2])",
        folder,
        digest,
    )

    assert mark.exists()


@pytest.mark.parametrize("change", ["flip", "truncate", "append", "remove", "link"])
@pytest.mark.parametrize("name", ["call.pkl", "manifest.json", "requirements.lock", "src/bomb.py"])
def test_each_changed_file_is_named_before_anything_is_loaded(armed, name, change, tmp_path):
    folder, digest, mark = armed
    path = folder / name
    data = path.read_bytes()
    if change == "flip":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif change == "truncate":
        path.write_bytes(data[:-1])
    elif change == "append":
        path.write_bytes(data + b"\n")
    else:
        path.unlink()
        if change == "link":
            (tmp_path / "same").write_bytes(data)
            path.symlink_to(tmp_path / "same")

    with pytest.raises(BundleTampered, match=name):
        bundle.load(folder, digest)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["src/json.py", "extra.txt", "src/deep/er.py", ".hidden", "__pycache__/x.pyc"])
def test_an_added_file_is_named(armed, name):
    folder, digest, _ = armed
    write(folder, {name: "raise SystemExit"})

    with pytest.raises(BundleTampered, match=rf"{name} was added"):
        bundle.verify(folder, digest)


def test_a_linked_folder_is_named(armed, tmp_path):
    folder, digest, _ = armed
    (folder / "src" / "__pycache__").symlink_to(tmp_path)

    with pytest.raises(BundleTampered, match="src/__pycache__ was added"):
        bundle.verify(folder, digest)


def test_a_forged_manifest_that_agrees_with_the_forged_call_is_caught_by_the_digest(armed):
    folder, digest, _ = armed
    call = (folder / "call.pkl").read_bytes() + b"."
    (folder / "call.pkl").write_bytes(call)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["call.pkl"] = {"sha256": hashlib.sha256(call).hexdigest(), "size": len(call)}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    assert bundle.verify(folder)["format"] == 1
    with pytest.raises(BundleTampered, match=r"manifest\.json is not the one that was packed"):
        bundle.verify(folder, digest)


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "src/../../outside", "src//x", "."])
def test_a_manifest_that_points_outside_is_damaged(armed, path):
    folder, _, _ = armed
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path] = manifest["files"]["call.pkl"]
    (folder / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleTampered, match="damaged"):
        bundle.verify(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": "2"}', "[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_damaged(folder, text):
    (folder / "manifest.json").write_text(text)

    with pytest.raises(BundleTampered, match="damaged"):
        bundle.verify(folder)


def test_a_newer_format_is_refused_with_the_fix(folder):
    (folder / "manifest.json").write_text('{"format": 2, "new": "things"}')

    with pytest.raises(BundleRefused, match="pip install --upgrade pl-hybridjobs"):
        bundle.verify(folder)


def test_bytecode_that_somebody_left_beside_the_sources_is_never_run(tmp_path, elsewhere, folder):
    import py_compile

    project = write(tmp_path / "p", {"train.py": "import near\n\ndef go():\n    return near.N\n", "near.py": "N = 1\n"})
    digest = run(PACK, json.dumps([str(project)]), "train", "go", folder, "()", "[]")
    evil = write(tmp_path / "evil", {"near.py": "N = 666\n"}) / "near.py"
    cached = folder / "src" / "__pycache__" / f"near.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(evil), cfile=str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)

    assert json.loads(run(LOAD, folder, digest, cwd=elsewhere, PYTHONDONTWRITEBYTECODE="")) == 1
    assert not list(folder.rglob("*.pyc"))
    assert bundle.verify(folder, digest)


# Environments ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(folder):
    packing.pack(add, (1,), {}, folder)
    return bundle.verify(folder)


def test_the_same_environment_gives_no_notes(manifest):
    assert bundle.compare_environment(manifest) == []


def test_another_python_minor_is_refused_with_the_version_to_use(manifest):
    manifest["python"]["version"] = "3.9.1"

    with pytest.raises(EnvironmentSkew, match=r"Run the job with Python 3\.9"):
        bundle.compare_environment(manifest)


def test_another_python_patch_is_fine(manifest):
    manifest["python"]["version"] = f"{sys.version_info[0]}.{sys.version_info[1]}.99"

    assert bundle.compare_environment(manifest) == []


def test_a_needed_package_that_is_missing_is_refused_with_the_command(manifest):
    manifest["packages"]["no-such-thing"] = "1.5"
    manifest["needs"].append("no-such-thing")

    with pytest.raises(EnvironmentSkew, match=r"pip install no-such-thing==1\.5"):
        bundle.compare_environment(manifest)


def test_differing_versions_are_noted(manifest):
    manifest["packages"].update({"cloudpickle": "0.1", "no-such-thing": "1.5"})

    first, second = bundle.compare_environment(manifest)

    assert first.startswith("cloudpickle 0.1 was packed, ")
    assert second == "no-such-thing 1.5 was packed, none is installed here"


def test_a_failure_to_unpickle_names_the_skew_and_the_fix(tmp_path, folder, elsewhere):
    old, new = tmp_path / "old", tmp_path / "new"
    for root, version, name in ((old, "1.0", "Thing"), (new, "2.0", "Renamed")):
        info = f"skewed-{version}.dist-info"
        write(root, {"skewed.py": f"class {name}:\n    pass\n", f"{info}/METADATA": f"Name: skewed\nVersion: {version}\n"})
    project = write(tmp_path / "p", {"train.py": "from skewed import Thing\n\ndef go():\n    return Thing()\n"})
    digest = run(PACK, json.dumps([str(project), str(old)]), "train", "go", folder, "()", "[]")
    code = """
        import sys
        from pathlib import Path
        from pl_hybridjobs.jobs import bundle
        from pl_hybridjobs.errors import EnvironmentSkew
        try:
            bundle.load(Path(sys.argv[1]), sys.argv[2])
        except EnvironmentSkew as error:
            print(error)
        """

    message = run(textwrap.dedent(code), folder, digest, path=[new], cwd=elsewhere)

    assert "skewed 1.0 was packed, 2.0 is installed here" in message
    assert "pip install skewed==1.0" in message


def test_a_module_that_is_only_found_while_loading_is_named_with_include(tmp_path, folder, elsewhere):
    files = {
        "train.py": "import near\n\ndef go():\n    return near.f()\n",
        "near.py": "hidden = __import__(''.join(['hid', 'den']))\n\ndef f():\n    return 1\n",
        "hidden.py": "",
    }
    project = write(tmp_path / "p", files)
    digest = run(PACK, json.dumps([str(project)]), "train", "go", folder, "()", "[]")
    code = """
        import sys
        from pathlib import Path
        from pl_hybridjobs.jobs import bundle
        from pl_hybridjobs.errors import BundleRefused
        try:
            bundle.load(Path(sys.argv[1]), sys.argv[2])
        except BundleRefused as error:
            print(error)
        """

    assert 'include=["hidden"]' in run(textwrap.dedent(code), folder, digest, cwd=elsewhere)


# Refusals --------------------------------------------------------------------------------------------------------------


def test_all_wrong_includes_and_requirements_are_gathered_and_nothing_is_written(folder):
    with pytest.raises(InvalidCall) as caught:
        packing.pack(add, (1,), {}, folder, include=["no_such_module", "./no/file", 5], requirements="missing.txt")  # type: ignore[list-item]

    assert len(caught.value.complaints) == 4
    assert not list(folder.iterdir())


def test_a_call_that_cannot_travel_writes_nothing(folder):
    with pytest.raises(CannotTravel, match=r"args\[0\] is a lock"):
        packing.pack(add, (threading.Lock(),), {}, folder)
    assert not list(folder.iterdir())


def test_a_secret_stops_the_packing(folder):
    key = "AKIA" + "ABCDEFGHIJKLMNOP"

    def train():
        return key

    with pytest.raises(SecretFound, match=r"train\.<closure>\.key looks like an AWS access key id") as caught:
        packing.pack(train, (), {}, folder)
    assert key not in str(caught.value)
    assert not list(folder.iterdir())
    packing.pack(train, (), {}, folder, allow_secrets=["key"])


def test_a_secret_in_a_source_file_that_would_travel_is_found(tmp_path, folder, monkeypatch):
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    write(tmp_path / "p", {"leaky_helper.py": f"# settings\nSETTING = '{token}'\n"})
    monkeypatch.syspath_prepend(tmp_path / "p")
    monkeypatch.setitem(sys.modules, "leaky_helper", sys)  # so that it is gone from there after the test
    del sys.modules["leaky_helper"]
    leaky_helper = importlib.import_module("leaky_helper")

    def train():
        return leaky_helper.SETTING

    with pytest.raises(SecretFound, match=r"leaky_helper\.py:2 looks like a GitHub token"):
        packing.pack(train, (), {}, folder)
    assert packing.pack(train, (), {}, folder, allow_secrets=["leaky_helper.py"]).files


def test_a_secret_deep_in_an_object_that_no_walk_sees_is_found_in_the_pickle(folder):
    parts = ["AKIA", "ABCDEFGHIJKLMNOP"]

    class Hiding:
        def __reduce__(self):
            return str, ("".join(parts),)

    with pytest.raises(SecretFound, match=r"call\.pkl looks like an AWS access key id"):
        packing.pack(add, (Hiding(),), {}, folder)


def test_environment_variables_do_not_travel(folder, monkeypatch):
    monkeypatch.setenv("MY_VARIABLE", "only-here-12345")
    environ = os.environ

    def train():
        return dict(environ)

    packing.pack(train, (), {}, folder)

    assert b"only-here-12345" not in (folder / "call.pkl").read_bytes()
    assert bundle.load(folder)[0]()["MY_VARIABLE"] == "only-here-12345"


def test_a_call_that_is_too_large_names_the_largest_objects(folder, monkeypatch):
    monkeypatch.setenv("HYBRIDJOBS_MAX_BUNDLE_MB", "1")
    table = {"rows": bytes(2_000_000), "small": b"x"}

    def train():
        return len(table)

    with pytest.raises(BundleTooLarge) as caught:
        packing.pack(train, ([b"y" * 300_000],), {}, folder)

    lines = str(caught.value).splitlines()
    assert lines[1].startswith('  - train.<closure>.table["rows"] (bytes, 2.0 MB)')
    assert lines[2].startswith("  - args[0][0] (bytes, 0.3 MB)")
    assert 'inputs={"data": path}' in lines[-1]
    assert not list(folder.iterdir())


def test_a_large_array_travels_and_a_larger_one_is_named(tmp_path, folder, monkeypatch):
    import numpy as np

    assert packed_and_loaded(np.sum, np.ones(1_000_000), folder=folder) == 1_000_000
    monkeypatch.setenv("HYBRIDJOBS_MAX_BUNDLE_MB", "1")
    with pytest.raises(BundleTooLarge, match=r"args\[0\]\[\"x\"\] \(ndarray, 8\.0 MB\)"):
        packing.pack(np.sum, ({"x": np.ones(1_000_000)},), {}, tmp_path)


def test_included_data_that_is_too_large_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDJOBS_MAX_BUNDLE_MB", "1")
    (tmp_path / "big.bin").write_bytes(bytes(1_500_000))

    with pytest.raises(BundleTooLarge, match=r"src/big\.bin \(1\.5 MB\)"):
        packing.pack(add, (1,), {}, folder, include=[tmp_path / "big.bin"])


# The record ------------------------------------------------------------------------------------------------------------


def test_the_manifest_tells_what_was_packed(folder):
    packed = packing.pack(add, (1,), {"c": 3}, folder)
    manifest = bundle.verify(folder, packed.digest)

    assert manifest["entry"] == {"module": __name__, "qualname": "add", "signature": "(a, b=…, *, c=…)"}
    assert manifest["sources"][__file__].startswith("src/")
    assert {f.path: (f.sha256, f.size) for f in packed.files} == {
        path: (record["sha256"], record["size"]) for path, record in manifest["files"].items()
    }
    assert packed.size_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert any(line.startswith("cloudpickle==") for line in packed.requirements)
