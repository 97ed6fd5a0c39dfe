"""A real Slurm with one node, in a folder of its own: for tests, and for whoever wants to try the guide without a cluster."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.queues import free_port

CANNOT_RUN = "SLURM CANNOT RUN HERE, so SlurmRunner was not tested: {} (`.ci/run` installs slurmctld, slurmd and slurm-client)"
_SBIN = os.pathsep.join(["/usr/sbin", "/sbin", "/usr/local/sbin"])
_STARTS_IN_S = 60.0
#: auth/none: whoever reaches the ports may submit, so they listen on the loop only. cred_expire: how long a requeued job waits.
_CONF = """\
ClusterName=hybridjobs
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
CommunicationParameters=NoAddrCache
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=YES
DefMemPerCPU=200
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
ReturnToService=2
KillWait=2
MessageTimeout=2
JobRequeue=1
MaxArraySize=501
MaxJobCount=10000
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=60 State=UP PriorityTier=5 GraceTime=10
PartitionName=yielding Nodes=localhost MaxTime=60 State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=10
PartitionName=urgent Nodes=localhost MaxTime=60 State=UP PriorityTier=9 PreemptMode=OFF
"""


def problem() -> str:
    """Why no Slurm can run here, or ""."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel") if _program(name) is None]
    return f"there is no {' and no '.join(missing)}" if missing else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), _SBIN]))


@dataclass
class Cluster:
    """A running Slurm.

    Attributes:
        folder: Its configuration, state and logs.
        cpus: How many it believes to have; that costs nothing.
    """

    folder: Path
    cpus: int = 8
    _path: str = field(default_factory=lambda: os.environ.get("PATH", os.defpath))
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """What ``$SLURM_CONF`` must name."""
        return self.folder / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """This process's environment, with the way to this Slurm."""
        return {**os.environ, "PATH": self._path, "SLURM_CONF": str(self.conf)}

    def configure(self) -> None:
        """Write ``slurm.conf``."""
        for name in ("state", "spool"):
            self.folder.joinpath(name).mkdir(exist_ok=True)
        values = {"user": getpass.getuser(), "controller": free_port(), "node": free_port(), "folder": self.folder, "cpus": self.cpus}
        self.conf.write_text(_CONF.format(**values))

    def start_controller(self) -> None:
        """Start ``slurmctld``."""
        self._start("slurmctld", "-D", "-i", "-f", str(self.conf))

    def start_node(self) -> None:
        """Start ``slurmd``."""
        self._start("slurmd", "-D", "-N", "localhost", "-f", str(self.conf))

    def kill_controller(self) -> None:
        """As a power loss would."""
        self._running["slurmctld"].kill()
        self._running["slurmctld"].wait()

    def wait_until_saved(self) -> None:
        """Until the controller has written down what it knows; it takes its time.

        What it wrote before is not enough: a controller that starts with jobs that wait, and run, starts them again, and drains the node.
        """
        asked_ns = time.time_ns()
        self._running["slurmctld"].send_signal(signal.SIGHUP)
        state = self.folder / "state" / "job_state"
        known = self.ask("squeue", "--noheader", "--format=%k").split()
        deadline = time.monotonic() + 20.0
        while not state.exists() or state.stat().st_mtime_ns < asked_ns or any(key.encode() not in state.read_bytes() for key in known):
            if time.monotonic() > deadline:
                raise TimeoutError("the controller does not save its state")
            time.sleep(0.1)

    def _start(self, name: str, *arguments: str) -> None:
        program = _program(name)
        assert program is not None
        with self.folder.joinpath(f"{name}.out").open("ab") as out:
            self._running[name] = subprocess.Popen(
                [program, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env, start_new_session=True
            )

    def wait(self, timeout_s: float = _STARTS_IN_S) -> None:
        """Until the node takes jobs."""
        deadline = time.monotonic() + timeout_s
        while not self._takes_jobs():
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))
                raise TimeoutError(f"Slurm does not come up:\n{logs}")
            time.sleep(0.05)

    def _takes_jobs(self) -> bool:
        """A controller that was started again says "idle" before the node has spoken to it, and refuses jobs until then."""
        if self.ask("sinfo", "--noheader", "--partition=main", "--format=%T", check=False).strip() not in ("idle", "mixed", "allocated"):
            return False
        asked = subprocess.run(["sbatch", "--test-only", "--wrap=true"], env=self.env, check=False, capture_output=True, timeout=30)
        return asked.returncode == 0

    def ask(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm prints."""
        program = shutil.which(command[0], path=self._path) or command[0]
        return subprocess.run([program, *command[1:]], env=self.env, check=check, capture_output=True, text=True, timeout=30).stdout

    def empty(self, timeout_s: float = 60.0) -> None:
        """End all jobs, and give back the node to those who come, whatever it went through."""
        if self.ask("sinfo", "--noheader", "--partition=main", "--format=%T", check=False).strip() in ("drained", "draining", "down"):
            self.ask("scontrol", "update", "nodename=localhost", "state=resume", check=False)
        deadline = time.monotonic() + timeout_s
        while self.ask("squeue", "--noheader", check=False).strip():
            self.ask("scancel", f"--user={getpass.getuser()}", check=False)
            if time.monotonic() > deadline:
                raise TimeoutError(f"jobs of Slurm do not end: {self.ask('squeue', check=False)}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all jobs, then the daemons, by their own ids."""
        with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
            self.empty()
        for process in reversed(self._running.values()):
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running(folder: Path, cpus: int = 8) -> Iterator[Cluster]:
    """A Slurm that is there as long as the block."""
    cluster = Cluster(folder, cpus)
    cluster.configure()
    cluster.start_controller()
    cluster.start_node()
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()
