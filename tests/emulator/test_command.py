"""``hybridjobs emulator`` and ``python -m pl_hybridjobs.emulator`` as real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
from click.testing import CliRunner

from pl_hybridjobs.cli.commands import cli
from tests.emulator.conftest import SV1

ROOT = Path(__file__).parents[2]


def test_it_prints_the_variables_serves_and_ends_with_a_bill():
    words = [sys.executable, "-m", "pl_hybridjobs.emulator", "--devices", "SV1", "--seed", "5"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(12)]
        exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if line.startswith("export "))
        found = boto3.client(
            "braket",
            endpoint_url=exported["AWS_ENDPOINT_URL_BRAKET"],
            region_name=exported["AWS_REGION"],
            aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
        ).search_devices(filters=[])["devices"]
        child.send_signal(signal.SIGTERM)
        rest, errors = child.communicate(timeout=30)

    assert "(seed 5) until Ctrl-C" in lines[0]
    assert [device["deviceArn"] for device in found] == [SV1]
    assert "the virtual bill" in rest
    assert all(line.startswith(("#", "export")) for line in [*lines, *rest.splitlines()]), "a shell can read it"
    assert (child.returncode, errors) == (0, "")


def test_the_command_ends_with_ctrl_c():
    def interrupt() -> None:
        while not any(thread.name == "emulator" for thread in threading.enumerate()):
            time.sleep(0.05)
        time.sleep(0.5)  # it has started, and says so now
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt)
    timer.start()

    jobs = ["--job-quota", "3", "--instance-quota", "ml.p*=0", "--image-python", "3.99"]
    words = ["--devices", "SV1, Forte 1", "--faults", "throttle=0.1", "--region", "us-west-2", *jobs]
    done = CliRunner().invoke(cli, ["emulator", *words])

    timer.join()
    assert done.exit_code == 0, done.output
    assert "export AWS_REGION=us-west-2" in done.output
    assert "device/qpu/ionq/Forte-1" in done.output
    assert "the virtual bill" in done.output


def test_a_wrong_option_is_one_clear_message():
    done = CliRunner().invoke(cli, ["emulator", "--devices", "SV9"])

    assert done.exit_code == 2
    assert "there is no emulated device 'SV9'. Did you mean 'SV1'?" in done.output


def test_wrong_options_of_jobs_are_clear_messages():
    for words, message in (
        (["--instance-quota", "ml.p*=many"], "'many' is no number of instances"),
        (["--image-python", "=3.12"], "'=3.12' must look like PATTERN=VALUE"),
        (["--image-python", "/no/such/python"], "neither a Python nor a version"),
    ):
        done = CliRunner().invoke(cli, ["emulator", "--devices", "SV1", *words])

        assert done.exit_code == 2
        assert message in done.output


def test_without_the_extra_it_says_what_to_install():
    code = (
        "import sys; sys.modules['moto'] = None\n"
        "from pl_hybridjobs.emulator import Faults, emulator\n"
        "from pl_hybridjobs.errors import InvalidCall\n"
        "try: emulator()\n"
        "except InvalidCall as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout == "emulator: moto is not installed: pip install 'pl-hybridjobs[emulator]'\n", done.stderr


def test_importing_it_loads_nothing_heavy():
    code = "import sys, pl_hybridjobs.emulator; print(sorted({'moto', 'braket', 'botocore', 'numpy', 'werkzeug'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout == "[]\n", done.stderr


def test_both_commands_have_the_same_options():
    words = [sys.executable, "-m", "pl_hybridjobs.emulator", "--help"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours = CliRunner().invoke(cli, ["emulator", "--help"]).output

    assert [name for name in re.findall(r"^  (--[\w-]+)", ours, re.M) if name not in said] == []
    assert set(re.findall(r"--[\w-]+", said)) - {"--help"} <= set(re.findall(r"--[\w-]+", ours))
