"""The start script of an emulated job's container: does what the one in Amazon's images does, faults included.

Started as ``python container.py ROOT checked|unchecked``, where ROOT stands for ``/``. It needs the standard library only, so that any
Python can be an image's. Sequence: download the source, unpack it, install each ``requirements.txt``, import the entry point, bind the
hyperparameters to its signature, run it in a process of its own, report a failure in ``/opt/ml/output/failure``.

Facts: https://github.com/amazon-braket/amazon-braket-containers (``src/braket_container.py``). Kept from there on purpose:

- a failed set-up (no source, cannot be unpacked) exits with code 0: the service believes that the job completed;
- pip's exit code is not looked at, unless "checked";
- hyperparameters are bound if all of them fit the signature (else none), each cast by calling its annotation, ``str`` by default;
- the entry point's module is imported in this process, its function is called in another.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlparse

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h
_TRIES = 6
#: The emulator takes any signature.
_SIGNED = "AWS4-HMAC-SHA256 Credential=emulated/20260101/{}/s3/aws4_request, SignedHeaders=host, Signature=none"


class Container:
    """The folders of one job.

    Args:
        root: What stands for ``/``.
        checked: A failed pip fails the job.
    """

    def __init__(self, root: Path, *, checked: bool) -> None:
        self._ml, self._braket, self._checked = root / "opt/ml", root / "opt/braket", checked
        self._original = self._braket / "code/customer_code/original"
        self._extracted = self._braket / "code/customer_code/extracted"

    def run(self) -> int:
        """From the source to the exit code."""
        print("Beginning Setup")
        if not self._braket.exists():
            self._braket.symlink_to(self._ml, target_is_directory=True)
        self._original.mkdir(parents=True, exist_ok=True)
        self._extracted.mkdir(parents=True, exist_ok=True)
        self._unpack(self._download(os.environ["AMZN_BRAKET_SCRIPT_S3_URI"]))
        self._install()
        return self._call(_entry_point(os.environ["AMZN_BRAKET_SCRIPT_ENTRY_POINT"]))

    def fail(self, text: str) -> None:
        """Add to what becomes the job's failureReason."""
        path = self._ml / "output/failure"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def _give_up(self, text: str) -> NoReturn:
        """With exit code 0, as Amazon's."""
        print(text)
        self.fail(text)
        sys.exit(0)

    def _download(self, uri: str) -> Path:
        found = urlparse(uri, allow_fragments=False)
        path = self._original / os.path.basename(found.path)  # noqa: PTH119 - of a URI, not of a path
        url = f"{os.environ['AWS_ENDPOINT_URL_S3']}/{found.netloc}{quote(found.path)}"
        try:
            path.write_bytes(_read(url))
        except OSError as error:
            self._give_up(f"Unable to download code.\nException: {error}")
        return path

    def _unpack(self, path: Path) -> None:
        compression = os.environ.get("AMZN_BRAKET_SCRIPT_COMPRESSION_TYPE", "")
        if compression.strip().lower() in ("gzip", "zip"):
            try:
                shutil.unpack_archive(path, self._extracted)
            except Exception as error:  # noqa: BLE001 - whatever it is, the job ends, and says so
                self._give_up(f"Got an exception while trying to unpack archive: {path} of type: {compression}.\nException: {error}")
        else:
            shutil.copy(path, self._extracted)
        sys.path.append(str(self._extracted))

    def _install(self) -> None:
        print("Checking for Additional Requirements")
        for folder, _, names in os.walk(self._extracted):
            if "requirements.txt" in names:
                command = [sys.executable, "-m", "pip", "install", "-r", str(Path(folder, "requirements.txt"))]
                code = subprocess.run(command, cwd=self._extracted, check=False).returncode
                if code and self._checked:
                    self.fail(f"pip could not install {Path(folder, 'requirements.txt').relative_to(self._extracted)} (exit code {code})")
                    sys.exit(1)
        importlib.invalidate_caches()
        print("Additional Requirements Check Finished")

    def _call(self, function: Callable[..., Any]) -> int:
        print("Running Code As Process")
        arguments = _bound_hyperparameters(function) or {}
        signal.signal(signal.SIGTERM, lambda *_: None)  # the function's own process has it too, and decides
        process = multiprocessing.Process(target=self._called, args=(function, arguments))
        process.start()
        process.join()
        print("Code Run Finished")
        return process.exitcode or 0

    def _called(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        _die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(self._extracted)
        try:
            function(**arguments)
        except Exception as error:
            self.fail(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
            raise


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _read(url: str) -> bytes:
    """An object of S3; throttling and failures of the service are tried again."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.addheaders = [("Authorization", _SIGNED.format(os.environ["AWS_REGION"]))]
    for number in range(_TRIES):
        try:
            with opener.open(url) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            if error.code < 500 or number == _TRIES - 1:
                raise
        time.sleep(0.05 * 2**number)
    raise AssertionError("the last try raises")


def _entry_point(name: str) -> Callable[..., Any]:
    """``module:function``, or a module or package that is run as a program."""
    module, colon, function = name.partition(":")
    if colon:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return found
    return partial(_run_module, name)


def _run_module(name: str) -> None:
    runpy.run_module(name, run_name="__main__")


def _bound_hyperparameters(function: Callable[..., Any]) -> dict[str, Any] | None:
    path = os.environ.get("AMZN_BRAKET_HP_FILE")
    if path is None:
        return None
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        inspect.signature(function).bind(**given)
    except TypeError:
        return None
    annotations = inspect.getfullargspec(function).annotations
    return {name: annotations.get(name, str)(value) for name, value in given.items()}


if __name__ == "__main__":
    _die_with_parent()
    sys.exit(Container(Path(sys.argv[1]), checked=sys.argv[2] == "checked").run())
