"""One job's instance: folders laid out as in a container, its processes, and what travels between them and S3."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pl_hybridjobs.emulator import buckets
from pl_hybridjobs.emulator.images import Python

CHECKPOINTS = "/opt/jobs/checkpoints"
_HERE = Path(__file__).parent
#: These would lead pip out of the job's environment.
_NOT_PASSED_ON = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV")
_PASSED_ON = ("PIP_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_PATIENCE_S = 10.0


class StartFailed(Exception):
    """What a job asked for is not there."""


class Instance:
    """A folder that stands for ``/``, and the processes that run in it. The service's ``/opt/...`` are folders below it.

    Args:
        root: The folder, new. ``opt/ml`` (also ``opt/braket``) and the checkpoint folder are as in the service; ``image`` is the Python.
        request: CreateJob's parameters.
        python: The image's.
        write: Takes what the processes print.
    """

    def __init__(self, root: Path, request: Mapping[str, Any], python: Python, write: Callable[[bytes], None]) -> None:
        self.root = root
        self.ended = threading.Event()  # all processes are gone, all their output was taken
        self.log_lost: Exception | None = None  # why some of it could not be kept
        self._request, self._python, self._write = request, python, write
        self._ml = root / "opt/ml"
        checkpoint = request.get("checkpointConfig") or {}
        self._checkpoints = root / checkpoint.get("localPath", CHECKPOINTS).lstrip("/")
        self._checkpoint_place = buckets.place(checkpoint["s3Uri"].rstrip("/") + "/") if checkpoint else None
        self._saved: dict[str, tuple[int, int, int]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        for folder in (self._ml / "input/config", self._ml / "input/data", self._ml / "model", self._ml / "code", self._checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("root", "tmp"):
            (root / name).mkdir()
        (root / "opt/braket").symlink_to(self._ml, target_is_directory=True)

    # Before

    def download(self) -> None:
        """Hyperparameters, input channels, and checkpoints that the S3 place holds already.

        Raises:
            StartFailed: A channel is empty, or its keys cannot be files.
        """
        try:
            self._download()
        except OSError as error:
            raise StartFailed(f"ClientError: Data download failed: {error}") from error

    def _download(self) -> None:
        if "hyperParameters" in self._request:
            path = self._ml / "input/config/hyperparameters.json"
            path.write_text(json.dumps(self._request["hyperParameters"]), encoding="utf-8")
        for channel in self._request.get("inputDataConfig", ()):
            self._download_channel(channel["channelName"], channel["dataSource"]["s3DataSource"]["s3Uri"])
        if self._checkpoint_place is not None:
            bucket, prefix = self._checkpoint_place
            for key in buckets.keys(bucket, prefix):
                path = _below(self._checkpoints, key[len(prefix) :])
                if _fetch(bucket, key, path):
                    self._saved[str(path)] = _mark(path)

    def _download_channel(self, channel: str, uri: str) -> None:
        """All keys that begin so: below a prefix that is a folder, else below the prefix's folder."""
        bucket, prefix = buckets.place(uri)
        keys = buckets.keys(bucket, prefix)
        is_folder = prefix.endswith("/") or all(key.startswith(f"{prefix}/") for key in keys)
        top = prefix.rstrip("/") + "/" if is_folder and prefix else prefix.rpartition("/")[0] + "/" if "/" in prefix else ""
        folder = self._ml / "input/data" / channel
        folder.mkdir()
        found = [key for key in keys if _fetch(bucket, key, _below(folder, key[len(top) :]))]
        if not found:
            raise StartFailed(f"ClientError: Data download failed: no S3 objects found under {uri} for the channel {channel!r}")

    # The run

    def start(self, environment: Mapping[str, str], *, checked_pip: bool) -> None:
        """Start the container's script, under a keeper.

        Raises:
            StartFailed: The image's Python is not on this machine.
        """
        if not self._python.executable:
            version = "{}.{}".format(*self._python.version)
            raise StartFailed(f"CannotStartContainerError: the image has Python {version}, which is not on this machine (emulator)")
        script = self._ml / "code/braket_container.py"
        script.write_bytes((_HERE / "container.py").read_bytes())
        python = self._python.install(self.root / "image")
        job = [str(python), "-u", str(script), str(self.root), "checked" if checked_pip else "unchecked"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-I", str(_HERE / "keeper.py"), *job],
            cwd=self._ml / "code",
            env={**self._surroundings(), **self._variables(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, name="emulated-instance", daemon=True).start()

    def terminate(self) -> None:
        """Ask the processes to end: SIGTERM."""
        if self._process is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End all processes now, as when the machine is lost. Returns when they are gone."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            process.stdin.close()
        if not self.ended.wait(_PATIENCE_S):
            process.kill()
            self.ended.wait(_PATIENCE_S)

    @property
    def exit_code(self) -> int:
        """Of the container's script, after ``ended``; 128 + N for signal N."""
        assert self._process is not None
        return self._process.returncode

    def _read(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        with process.stdout:
            while data := os.read(process.stdout.fileno(), 1 << 16):
                try:
                    self._write(data)
                except Exception as error:  # noqa: BLE001 - the job says it; its processes must not wait for a reader
                    self.log_lost = error
        process.wait()
        with contextlib.suppress(OSError, ValueError):
            process.stdin.close()  # type: ignore[union-attr]
        self.ended.set()

    def _surroundings(self) -> dict[str, str]:
        """Of this machine only what an installer needs; caches are shared, so that nothing is compiled or fetched twice."""
        home = Path.home()
        passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON) and name not in _NOT_PASSED_ON}
        return {
            **passed,
            "PATH": f"{self.root / 'image/bin'}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.root / "root"),
            "TMPDIR": str(self.root / "tmp"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(home / ".cache"),
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME") or str(home / ".config"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def _variables(self) -> dict[str, str]:
        """The service's, by its names."""
        request = self._request
        script = request["algorithmSpecification"].get("scriptModeConfig", {})
        bucket, location = buckets.place(request["outputDataConfig"]["s3Path"])
        braket = self.root / "opt/braket"
        found = {
            "AMZN_BRAKET_JOB_NAME": request["jobName"],
            "AMZN_BRAKET_DEVICE_ARN": request["deviceConfig"]["device"],
            "AMZN_BRAKET_JOB_RESULTS_DIR": str(braket / "model"),
            "AMZN_BRAKET_CHECKPOINT_DIR": str(self._checkpoints),
            "AMZN_BRAKET_OUT_S3_BUCKET": bucket,
            "AMZN_BRAKET_TASK_RESULTS_S3_URI": f"s3://{bucket}/jobs/{request['jobName']}/tasks",
            "AMZN_BRAKET_JOB_RESULTS_S3_PATH": f"{location.rstrip('/')}/output",
            "AMZN_BRAKET_SCRIPT_S3_URI": script.get("s3Uri", ""),
            "AMZN_BRAKET_SCRIPT_ENTRY_POINT": script.get("entryPoint", ""),
        }
        if "compressionType" in script:
            found["AMZN_BRAKET_SCRIPT_COMPRESSION_TYPE"] = script["compressionType"]
        if "hyperParameters" in request:
            found["AMZN_BRAKET_HP_FILE"] = str(braket / "input/config/hyperparameters.json")
        if request.get("inputDataConfig"):
            found["AMZN_BRAKET_INPUT_DIR"] = str(braket / "input/data")
        return found

    # After, and meanwhile

    def save_checkpoints(self) -> None:
        """Copy files of the checkpoint folder that are new or have changed to S3; files may be written to meanwhile."""
        if self._checkpoint_place is None:
            return
        bucket, prefix = self._checkpoint_place
        for folder, _, names in os.walk(self._checkpoints):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):  # it is gone again
                    mark = _mark(path)
                    if path.is_file() and self._saved.get(str(path)) != mark:
                        buckets.put(bucket, prefix + path.relative_to(self._checkpoints).as_posix(), path.read_bytes())
                        self._saved[str(path)] = mark

    def save_results(self) -> None:
        """Pack the results folder, and put it where the request says."""
        path = self.root / "model.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for entry in sorted((self._ml / "model").iterdir()):
                archive.add(entry, entry.name)
        bucket, key = buckets.place(self._request["outputDataConfig"]["s3Path"].rstrip("/") + "/output/model.tar.gz")
        buckets.put(bucket, key, path.read_bytes())

    @property
    def failure(self) -> str:
        """What the container says about its failure."""
        with contextlib.suppress(OSError):
            return (self._ml / "output/failure").read_text(encoding="utf-8", errors="replace")
        return ""


def _below(folder: Path, name: str) -> Path:
    """A file of a folder, whatever the rest of its key is."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise StartFailed(f"ClientError: Data download failed: {name!r} leads out of its folder")
    return folder.joinpath(*parts)


def _fetch(bucket: str, key: str, path: Path) -> bool:
    """Write an object to a file; False: it is a folder's placeholder, or gone."""
    content = None if key.endswith("/") else buckets.read(bucket, key)
    if content is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return True


def _mark(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
