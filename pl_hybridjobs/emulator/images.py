"""Images of jobs' containers: which Python stands for each, and what Amazon's registry says about its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import InvalidCall

#: The account that publishes Braket's images.
AMAZON = "292282985366"
#: Its repositories of images for jobs.
REPOSITORIES = tuple(f"amazon-braket-{name}-jobs" for name in ("base", "pytorch", "tensorflow", "cudaq"))
_ASK = (
    "import json, site, sys; "
    "print(json.dumps([sys.version_info[:2], getattr(sys, '_base_executable', None) or sys.executable, site.getsitepackages()]))"
)


@dataclass(frozen=True)
class Python:
    """The Python of an image.

    Attributes:
        version: Major and minor.
        executable: Its path on this machine, outside of a virtual environment; "": it is not here, and jobs cannot start.
        site_packages: Folders of installed packages.
    """

    version: tuple[int, int]
    executable: str
    site_packages: tuple[str, ...] = ()

    def install(self, folder: Path) -> Path:
        """Make the image's environment in a folder: sees all installed packages, and takes what a job installs without touching them.

        Returns:
            The interpreter's path there.
        """
        packages = folder / "lib" / "python{}.{}".format(*self.version) / "site-packages"
        packages.mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "pyvenv.cfg").write_text(f"home = {Path(self.executable).parent}\n", encoding="utf-8")
        lines = [f"import site; site.addsitedir({path!r})" for path in self.site_packages]
        (packages / "image.pth").write_text("\n".join(lines), encoding="utf-8")
        for name in ("python", "python3"):
            (folder / "bin" / name).symlink_to(self.executable)
        return folder / "bin" / "python"


class Images:
    """Which Python stands for which image: by default this interpreter, with its packages, for all.

    Args:
        table: Interpreters' paths or versions (``"3.12"``), by patterns of image URIs (``"*amazon-braket-base-jobs*"``, ``"*"``); the
            first that fits.

    Raises:
        InvalidCall: A path is no Python, or a text no version.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = {pattern: _python(text) for pattern, text in table.items()}

    def python(self, uri: str) -> Python:
        """That of an image."""
        return next((python for pattern, python in self._table.items() if fnmatchcase(uri, pattern)), own())

    def described(self, region: str, repository: str, wanted: Mapping[str, str]) -> list[dict[str, Any]] | None:
        """Amazon's images that have a tag or a digest, as ECR's BatchGetImage gives them; None: there is no such repository."""
        if repository not in REPOSITORIES:
            return None
        major, minor = self.python(f"{AMAZON}.dkr.ecr.{region}.amazonaws.com/{repository}:latest").version
        digest = f"sha256:{hashlib.sha256(f'{repository} {major}.{minor}'.encode()).hexdigest()}"
        tags = ("latest", f"latest-cpu-py{major}{minor}-emulated")
        return [
            {
                "registryId": AMAZON,
                "repositoryName": repository,
                "imageId": {"imageDigest": digest, "imageTag": tag},
                "imageManifest": "{}",
            }
            for tag in tags
            if wanted.get("imageDigest") == digest or wanted.get("imageTag") == tag
        ]


@cache
def own() -> Python:
    """This interpreter."""
    executable = getattr(sys, "_base_executable", None) or sys.executable
    return Python(sys.version_info[:2], os.path.realpath(executable), tuple(site.getsitepackages()))


@cache
def _python(text: str) -> Python:
    parts = text.split(".")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        version = (int(parts[0]), int(parts[1]))
        if version == own().version:
            return own()
        path = shutil.which(f"python{text}")
        return _asked(path) if path else Python(version, "")
    return _asked(text)


def _asked(path: str) -> Python:
    try:
        answer = subprocess.run([path, "-c", _ASK], capture_output=True, text=True, check=True, timeout=30).stdout
        (major, minor), executable, packages = json.loads(answer)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise InvalidCall(
            "emulator(image_python=...)", [f"{path!r} is neither a Python nor a version such as '3.12' ({error})."]
        ) from error
    return Python((major, minor), os.path.realpath(executable), tuple(packages))
