"""A container engine for tests: a Debian root made here, without a registry, in which this machine's Python and packages are shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from pl_hybridjobs.jobs.container import ContainerRunner
from pl_hybridjobs.jobs.durable import locked

ROOT = Path(__file__).parents[2]
CANNOT_RUN = "CONTAINERS CANNOT RUN HERE, so ContainerRunner was not tested: {} (`.ci/run` installs podman, runc and mmdebstrap)"
CONF = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_FOLDER = Path(tempfile.gettempdir()) / f"hybridjobs-tests-{os.getuid()}"
#: Unpacked and not configured: enough for Python, and three times faster.
_PACKAGES = "base-files,python3,python3-venv,python3-pip,coreutils,dash,libc-bin,libgomp1,libstdc++6,ca-certificates,openssl"
_BUILT_IN_S = 400


@cache
def suite() -> str:
    """This machine's release of Debian, or one that has a Python that we support."""
    text = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return values.get("VERSION_CODENAME", "bookworm") if values.get("ID") == "debian" else "bookworm"


def base_image() -> str:
    """The name that the base image has here, so that a second run finds it."""
    return f"localhost/hybridjobs-test-base:{suite()}-2"


@cache
def problem() -> str:
    """Why no container can run here, or "". Makes the base image where it is missing; sets ``CONTAINERS_CONF`` where it must be set."""
    missing = [program for program in ("podman", "mmdebstrap") if shutil.which(program) is None]
    if missing:
        return f"there is no {' and no '.join(missing)}"
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    with locked(_FOLDER / "lock", timeout_s=_BUILT_IN_S):
        said = ""
        for conf in dict.fromkeys([os.environ.get("CONTAINERS_CONF", ""), str(_conf()), ""]):
            if conf:
                os.environ["CONTAINERS_CONF"] = conf
            else:
                os.environ.pop("CONTAINERS_CONF", None)
            try:
                if subprocess.run(["podman", "image", "exists", base_image()], capture_output=True).returncode:
                    _make_base()
                run("run", "--rm", "--network", "none", base_image(), "python3", "-c", "pass")
            except subprocess.CalledProcessError as error:
                said = said or str(error.stderr).strip()[-300:]
            else:
                return ""
    return said


def _conf() -> Path:
    path = _FOLDER / "containers.conf"
    path.write_text(CONF)
    return path


def _make_base() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tar = f"{folder}/base.tar"
        merged = ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
        make = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={_PACKAGES}", *merged, suite(), tar]
        subprocess.run(make, check=True, capture_output=True, text=True, timeout=_BUILT_IN_S)
        run("import", "--quiet", tar, base_image())


def run(*arguments: str) -> str:
    """What a command of podman prints."""
    return subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True, timeout=_BUILT_IN_S).stdout


@cache
def _python() -> Path:
    """A virtual environment of this interpreter that finds this checkout and what is installed here."""
    packages = Path(sysconfig.get_paths()["purelib"])
    folder = Path(tempfile.mkdtemp(prefix="python-", dir=_FOLDER))
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    base = getattr(sys, "_base_executable", sys.executable)
    (folder / "bin" / "python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(base).parent}\n")
    (site / "shown.pth").write_text(f"{ROOT}\n{packages}\n")
    return folder


def here(**options: object) -> ContainerRunner:
    """Containers of the base image with this machine's Python and packages: nothing needs to be installed."""
    packages = sysconfig.get_paths()["purelib"]
    shown = [str(_python()), packages, str(ROOT), *([sys.base_prefix] if sys.base_prefix != "/usr" else [])]
    return ContainerRunner(image=base_image(), engine="podman", python=str(_python() / "bin" / "python"), mounts=shown, **options)
