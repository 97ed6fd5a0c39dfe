"""Jobs as Amazon Braket Hybrid Jobs: ``runner="braket"``, or ``runner=BraketRunner(instance_type=..., ...)``.

The job's folder is at two places, see ``mirror``; this module submits, looks, cancels, and says in the folder here how it ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pl_hybridjobs.braket import jobs, payload, record
from pl_hybridjobs.braket.inside import EMPTY
from pl_hybridjobs.braket.jobs import Fate, Order, Places, RequestOptions
from pl_hybridjobs.braket.logs import LogReader
from pl_hybridjobs.braket.mirror import Mirror, Object, put_files
from pl_hybridjobs.braket.record import Run
from pl_hybridjobs.braket.session import Refusal, Retries, Session, is_missing, shared
from pl_hybridjobs.errors import BudgetExceeded, Fenced, ProviderError, RunnerError, StoreError, did_you_mean, says_its_fields
from pl_hybridjobs.jobs import bundle, lanes, outcome, process, trackers
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, locked, read_sealed, try_locked, write_bytes
from pl_hybridjobs.jobs.folder import AttemptFolder, JobFolder
from pl_hybridjobs.jobs.inputs import is_remote
from pl_hybridjobs.jobs.lease import Lease
from pl_hybridjobs.jobs.logs import tail
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State
from pl_hybridjobs.jobs.state import observe as observe_here

if TYPE_CHECKING:
    from pl_hybridjobs.cost.ledger import Cost

_ROLE_NAME, _ROLE_PATH = "AmazonBraketJobsExecutionRole", "/service-role/"
_TO_SUBMIT, _TO_LOOK = Retries(), Retries(attempts=4, longest_s=2.0)
_TAG_PYTHON = re.compile(r"py(\d)(\d+)")
_UNLISTED_S = 900.0
_NO_LOGS = ("AccessDeniedException", "UnrecognizedClientException")


@says_its_fields
@dataclass(frozen=True, kw_only=True)
class BraketRunner(RequestOptions):
    """Each job is an Amazon Braket Hybrid Job; the caller, and this machine, may leave. See ``RequestOptions`` for the options."""

    name: ClassVar[str] = "braket"
    installs: ClassVar[bool] = True
    reads_s3: ClassVar[bool] = True
    at_once: ClassVar[int] = 3  # the quota of a new account
    #: Whether what jobs buy, and what they run on, is paid for.
    is_bought: ClassVar[bool] = True
    #: The service takes five GetJob in a second, of the whole account.
    look_every_s: ClassVar[float] = 1.0

    # Before ------------------------------------------------------------------------------------------------------------------

    def complaints(self, spec: JobSpec) -> list[str]:
        """See ``Runner.complaints``."""
        return RequestOptions.complaints(self, spec)

    def preflight(self, spec: JobSpec) -> list[str]:
        """What the service would refuse, one sentence each, as far as it tells: role, bucket, instance type, quota, image."""
        try:
            session = self.session(spec, retries=_TO_LOOK)
            region, _ = session.region, session.account
        except ProviderError as error:  # no credentials, or no network: all else would say the same
            return [str(error)]
        found = []
        try:
            session.check_bucket()
        except ProviderError as error:
            found.append(str(error))
        found += input_problems(session, spec)
        found += self._role_problems(session)
        found += self._instance_problems(session)
        found += self.image_complaints(region, self._image_python(session, region) or jobs.IMAGE_PYTHON, this_python())
        return found

    def _role_problems(self, session: Session) -> list[str]:
        try:
            self._role(session)
        except RunnerError as error:
            return [str(error)]
        return []

    def _role(self, session: Session) -> str:
        """Whom the job acts as."""
        if named := self.role_arn or os.environ.get("BRAKET_JOBS_ROLE_ARN"):
            return named
        try:
            for page in session.pages("iam", "list_roles", "Marker", PathPrefix=_ROLE_PATH):
                for role in page.get("Roles", ()):
                    if str(role["RoleName"]).startswith(_ROLE_NAME):
                        return str(role["Arn"])
        except Refusal as refusal:
            is_forbidden = refusal.code.startswith(("AccessDenied", "UnauthorizedOperation"))
            why = f"the permission iam:ListRoles is missing ({refusal.code})." if is_forbidden else str(refusal)
            raise RunnerError(
                f"No role is named, and the default one cannot be looked for: {why} Name it: role_arn=, or $BRAKET_JOBS_ROLE_ARN."
            ) from refusal
        raise RunnerError(
            f"There is no role for jobs: none is named, and none begins with {_ROLE_NAME}. The Braket console makes it "
            "(Permissions and settings, Execution roles); or name another: role_arn=, or $BRAKET_JOBS_ROLE_ARN."
        )

    def _instance_problems(self, session: Session) -> list[str]:
        known = session.choices("braket", "InstanceType")
        if known and self.instance_type not in known:
            return [self.unknown_instance(known)]
        try:
            quota = self._quota(session)
        except ProviderError:  # not everybody may look, and the service itself looks again
            return []
        if quota == 0:
            more = "ask for a larger quota (console: Service Quotas, Amazon Braket)"
            return [f"this account's quota of {self.instance_type} for jobs is 0. Choose another instance_type, or {more}"]
        return []

    def unknown_instance(self, known: tuple[str, ...]) -> str:
        """That there is no such instance."""
        return f"Amazon Braket has no instance_type={self.instance_type!r}.{did_you_mean(self.instance_type, known)}"

    def _quota(self, session: Session) -> float | None:
        for page in session.pages("service-quotas", "list_service_quotas", "NextToken", ServiceCode="braket"):
            for quota in page.get("Quotas", ()):
                words = str(quota.get("QuotaName", "")).split()
                if self.instance_type in words and any(word.startswith("job") for word in words):
                    return float(quota["Value"])
        return None

    def _image_python(self, session: Session, region: str) -> str:
        """Which Python Amazon's image has, by the long name of its tag; "" where that cannot be told."""
        if self.image_uri:
            return ""
        uri = self.image_for(region)
        registry, repository = uri.partition(".")[0], uri.rpartition("/")[2].partition(":")[0]
        try:
            wanted: dict[str, str] = {"imageTag": "latest"}
            for _ in range(2):  # the short tag gives the digest, the digest all tags
                answer = session.call("ecr", "batch_get_image", registryId=registry, repositoryName=repository, imageIds=[wanted])
                for image in answer.get("images", ()):
                    if match := _TAG_PYTHON.search(str(image["imageId"].get("imageTag", ""))):
                        return f"{match[1]}.{match[2]}"
                    wanted = {"imageDigest": str(image["imageId"]["imageDigest"])}
        except ProviderError:
            return ""
        return ""

    def door(self, folder: JobFolder) -> dict[str, Any]:
        """What else belongs to where a job is submitted; nothing for Amazon itself."""
        del folder
        return {}

    def place(self, folder: JobFolder) -> str:
        """See ``Mirroring.place``: the Amazon resource name, and the name in the console."""
        run = record.latest(folder)
        return f"{run.arn} ({run.intent['request']['jobName']})" if run is not None and run.arn else ""

    # Submitting ----------------------------------------------------------------------------------------------------------------

    def session(self, spec: JobSpec, folder: JobFolder | None = None, retries: Retries = _TO_SUBMIT) -> Session:
        """The way to Amazon, in the job's region.

        Args:
            spec: The job.
            folder: Its folder; None before it has one.
            retries: How long to go on.
        """
        del folder
        return shared(
            region=self.region_for(spec),
            profile=self.profile or "",
            bucket=self.bucket or "",
            prefix=self.prefix or "",
            retries=retries,
        )

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """See ``Runner.start``. However often it is called for the same attempt, there is one Braket job."""
        record.home(folder).mkdir(mode=0o700, exist_ok=True)
        with locked(record.lock(folder)):
            self._start(folder, digest, cause)

    def _start(self, folder: JobFolder, digest: str, cause: str) -> None:
        spec = folder.spec()
        last = record.latest(folder)
        try:
            session = self.session(spec, folder)
            if last is not None and not last.arn:
                self._submit_again(session, folder, last)
                trackers.begin(folder, spec.mirrors)
                return
            if last is not None and not last.is_closed:
                if cause == "start":  # another client with the same key was first
                    return
                raise RunnerError(f"{spec.name} runs already, as {last.arn}.")
            bucket, _ = session.location()
            run = record.after(folder, last)
            if last is not None:
                self._seal(folder, last, "resumed")
            home = self._set_aside(folder, spec, run)
            try:
                self._upload(session, folder, spec, run, bucket, digest, cause, home)
                self._submit(session, run, again=False)
            finally:
                if record.latest(folder) == last:  # it was not, for certain
                    self._give_back(folder, run)
            trackers.begin(folder, spec.mirrors)
        except ProviderError as error:
            raise RunnerError(f"{spec.name} could not be submitted: {error}") from error

    def _set_aside(self, folder: JobFolder, spec: JobSpec, run: Run) -> dict[str, bytes]:
        from pl_hybridjobs.braket import allowance

        return allowance.set_aside(folder, run, self.instance_type, self.runtime_s(spec), is_bought=self.is_bought)

    def _give_back(self, folder: JobFolder, run: Run) -> None:
        from pl_hybridjobs.braket import allowance

        allowance.give_back(folder, run, is_bought=self.is_bought)

    def _upload(
        self,
        session: Session,
        folder: JobFolder,
        spec: JobSpec,
        run: Run,
        bucket: str,
        digest: str,
        cause: str,
        home: Mapping[str, bytes],
    ) -> None:
        """Put everything into S3, and write down what will be asked for."""
        places = Places.of(self, bucket, jobs.job_name(spec.name, spec.id, run.number))
        inputs = Places.of(self, bucket, jobs.job_name(spec.name, spec.id, 1))
        packed = payload.pack(folder, home)
        latest = folder.latest_attempt()
        order = Order(spec.id, run.number, cause, digest, packed.digest, this_python(), latest.number if latest else 0)
        asked = jobs.request(spec, self, order, places, inputs=inputs, role=self._role(session), region=session.region)
        code_bucket, key = jobs.split_place(places.source(packed.digest))
        session.call("s3", "put_object", Bucket=code_bucket, Key=key, Body=packed.archive)
        if run.number == 1:
            for channel, name in spec.inputs.items():
                if not is_remote(name):
                    self._upload_channel(session, folder.inputs / channel, inputs.channel(channel))
        intent = {
            "request": asked,
            "region": session.region,
            "folder": f"{places.checkpoints}/{spec.id}",
            "epoch": order.epoch,
            "time": time.time(),
            "door": self.door(folder),
            "source_mb": len(packed.archive) / 1e6,
        }
        Mirror(session, folder, run, place=str(intent["folder"])).push()
        with locked(folder.lock):
            if folder.outcome.exists():
                raise RunnerError(f"{spec.name} was cancelled while it was uploaded. It was not submitted.")
            run.begin(intent)  # last: from now on the request is sent again as it is
        crash_point("braket.intent")

    @staticmethod
    def _upload_channel(session: Session, root: Path, place: str) -> None:
        bucket, prefix = jobs.split_place(place)
        files = [(path.relative_to(root).as_posix(), path) for path in sorted(root.rglob("*")) if path.is_file()]
        put_files(session, bucket, prefix.rstrip("/"), files)
        if not files:  # the service has no empty channels
            session.call("s3", "put_object", Bucket=bucket, Key=f"{prefix}{EMPTY}", Body=b"")

    def _submit(self, session: Session, run: Run, *, again: bool) -> None:
        """Send CreateJob, or find what was created when it was sent before, perhaps by a process that died."""
        arn = self._find(session, run) if again else ""
        if not arn:
            try:
                arn = str(session.call("braket", "create_job", **run.intent["request"])["jobArn"])
            except ProviderError as error:
                is_there = isinstance(error, Refusal) and error.code == "ConflictException"  # another machine was faster
                arn = self._find(session, run) if is_there else ""
                if not arn:
                    if error.nothing_done and (not again or _would_be_listed(session, run)):
                        run.forget()
                    raise
        crash_point("braket.created")
        run.created(arn)

    def _submit_again(self, session: Session, folder: JobFolder, run: Run) -> None:
        try:
            self._submit(session, run, again=True)
        finally:
            if record.latest(folder) != run:  # forgotten
                self._give_back(folder, run)

    @staticmethod
    def _find(session: Session, run: Run) -> str:
        """The Braket job of this run by its name, if it was created; tokens are not remembered for ever."""
        since = datetime.fromtimestamp(float(run.intent["time"]) - 600.0, UTC).isoformat()
        wanted = str(run.intent["request"]["jobName"])
        filters = [{"name": "createdAt", "operator": "GTE", "values": [since]}]
        for page in session.pages("braket", "search_jobs", filters=filters, maxResults=100):
            for found in page.get("jobs", ()):
                if found.get("jobName") == wanted:
                    return str(found["jobArn"])
        return ""

    # Looking -------------------------------------------------------------------------------------------------------------------

    def observe(self, folder: JobFolder) -> State:
        """See ``Runner.observe``. Takes what has come, at most once in a second; asks nobody once the job is over."""
        run = record.latest(folder)
        if run is None or run.is_closed:
            state = observe_here(folder)
            return State(Status.CREATED, 0, "never submitted") if run is None and state.status is Status.CREATED else state
        try:
            if abs(time.time() - run.asked) >= self.look_every_s:  # clocks go back, and differ between machines
                with try_locked(record.lock(folder)) as is_ours:
                    if is_ours and not run.is_closed:
                        self._look(folder, run)
        except ProviderError as error:
            return State(Status.UNKNOWN, self._attempt(folder), str(error).strip().split("\n")[0].rstrip("."))
        latest = record.latest(folder)
        if latest is None or latest.is_closed:
            return observe_here(folder)
        return self._as_told(folder, latest)

    def _as_told(self, folder: JobFolder, run: Run) -> State:
        """From the answer that we have; no outcome before all of it is here."""
        answer = run.answer
        if not answer:
            status, detail = (
                (Status.QUEUED, "submitted") if run.arn else (Status.CREATED, "not known to be submitted; resume() sends it again")
            )
        elif jobs.is_over(answer):
            status, detail = Status.RUNNING, "taking its results"
        else:
            status, detail = jobs.progress(answer)
        return State(status, self._attempt(folder), detail)

    @staticmethod
    def _attempt(folder: JobFolder) -> int:
        latest = folder.latest_attempt()
        return latest.number if latest else 0

    def _look(self, folder: JobFolder, run: Run) -> None:
        """Ask once, and take what is new. The caller holds the lock."""
        spec = folder.spec()
        session = self.session(spec, folder, _TO_LOOK)
        arn = run.arn
        if not arn:
            arn = self._find(session, run)
            if not arn:
                run.heard({})
                return
            run.created(arn)
        answer = jobs.plain(session.call("braket", "get_job", jobArn=arn, additionalAttributeNames=["QueueInfo"]))
        run.heard(answer)
        is_over = jobs.is_over(answer)
        readable = self._pull_logs(session, folder, run, answer)
        mirror = Mirror(session, folder, run, is_bought=self.is_bought)
        listed = mirror.pull(logs=not readable)
        if is_over:
            self._close(folder, spec, run, mirror, listed)

    @staticmethod
    def _pull_logs(session: Session, folder: JobFolder, run: Run, answer: Mapping[str, Any]) -> bool:
        """Whether logs can be read line by line."""
        if not answer.get("startedAt"):
            return True
        try:
            LogReader(session, folder, run, str(answer.get("jobName"))).pull()
        except Refusal as refusal:
            if refusal.code not in _NO_LOGS:
                raise
            return False
        return True

    def _close(self, folder: JobFolder, spec: JobSpec, run: Run, mirror: Mirror, listed: list[Object]) -> None:
        """It is over: take the rest, the outcome last, and say how it ended where nobody else did."""
        from pl_hybridjobs.braket import allowance

        allowance.settle(folder, run, is_bought=self.is_bought)  # also where the rest turns out to be damaged
        mirror.complete_logs(listed)
        again = False
        if not mirror.pull_outcome(listed):
            again = self._conclude(folder, spec, run)
        run.close()
        crash_point("braket.closed")
        # What cannot be begun now can be resumed; who waits for the sweep begins the next one.
        with contextlib.suppress(RunnerError, StoreError, BudgetExceeded):
            if again:
                self._start(folder, spec.bundle_digest, "retry")
            elif (sweep := lanes.of_job(folder, spec)) is not None:
                sweep.begin(self, lambda following: following.spec().bundle_digest, is_patient=True)

    def _conclude(self, folder: JobFolder, spec: JobSpec, run: Run) -> bool:
        """Write down how a job ended that left no outcome.

        Returns:
            Whether retries allow another attempt.
        """
        latest = folder.latest_attempt()
        began = _began(folder, run)
        fate = jobs.fate(run.answer, began=began, run=run.number)
        if folder.cancel_request.exists() and fate.status is not Status.FAILED:
            fate = Fate(Status.CANCELLED, "cancelled", "cancelled")
        if fate.status is Status.INTERRUPTED:
            return self._interrupt(folder, spec, run, fate.message)
        self._seal(folder, run, fate.message)
        if fate.status is Status.CANCELLED:
            with locked(folder.lock):
                outcome.commit_cancelled(folder, fate.message)
        else:
            said = tail([run.container_log], timestamps=True) if not began else ""
            message = f"{fate.message}\nThe container's last words:\n{said}" if said else fate.message
            error = {"type": "", "message": message, "traceback": ""}
            with contextlib.suppress(Fenced):
                outcome.commit_failure(folder, latest.number if latest else 0, fate.reason, error)
        return False

    def _interrupt(self, folder: JobFolder, spec: JobSpec, run: Run, message: str) -> bool:
        attempt = self._seal(folder, run, message)
        assert attempt is not None, "only a run that began, or had one before it, is interrupted"
        by_choice = attempt.stopped.exists() or folder.cancel_request.exists()
        if by_choice or not _began(folder, run) or read_sealed(attempt.exit).get("known", True):
            return False
        return Lease.read(attempt).interruptions < spec.retries.interruptions

    @staticmethod
    def _seal(folder: JobFolder, run: Run, message: str) -> AttemptFolder | None:
        """Say of the newest attempt that it is over, so that nobody waits for it; one that left no lease gets one."""
        latest = folder.latest_attempt()
        if latest is None:
            return None
        try:
            Lease.read(latest)
        except StoreError:
            nobody = process.Identity(run.arn, "", 0, "")
            lease = Lease(latest.number, nobody, "start", 0, 0, time.time(), time.time(), 0.0)
            write_bytes(latest.lease, dump_sealed(lease.to_json()))
        ended = folder.read_optional(latest.exit)
        if ended is None or ended.get("again"):  # nobody is left who would try again
            ended = {"code": None, "time": time.time(), **(ended or {}), "detail": message, "known": False, "again": False}
        elif not _began(folder, run):
            ended = {**ended, "detail": message}
        write_bytes(latest.exit, dump_sealed(ended))
        return latest

    def tasks(self, folder: JobFolder) -> list[dict[str, Any]]:
        """What SearchQuantumTasks says of all its Braket jobs, as ``jobs.plain`` has it: also tasks that its ledger does not know.

        Raises:
            ProviderError: The service refuses, or cannot be reached.
        """
        arns = [run.arn for run in record.runs(folder) if run.arn]
        session = self.session(folder.spec(), folder, _TO_LOOK)
        asked = [[{"name": "jobArn", "operator": "EQUAL", "values": [arn]}] for arn in arns]
        pages = (page for filters in asked for page in session.pages("braket", "search_quantum_tasks", filters=filters))
        return [jobs.plain(task) for page in pages for task in page["quantumTasks"]]

    # Ending --------------------------------------------------------------------------------------------------------------------

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """See ``Runner.cancel``. The service ends it; how long that takes is its own business."""
        with locked(folder.lock):  # nothing is submitted meanwhile
            run = record.latest(folder)
            if run is None or run.is_closed:
                if not observe_here(folder).status.is_final:
                    outcome.commit_cancelled(folder, "cancelled before it ran" if run is None else "cancelled between attempts")
                self._give_back(folder, record.after(folder, run))  # of somebody who died before it was submitted
                return
        if self.observe(folder).status.is_final:
            return
        write_bytes(folder.cancel_request, dump_sealed({"time": time.time(), "grace_s": grace_s}))
        session = self.session(folder.spec(), folder)
        try:
            with locked(record.lock(folder)):
                run = record.latest(folder) or run  # it may have been tried again just before
                if not run.arn:
                    self._submit_again(session, folder, run)  # it may have been created, and then it is to be cancelled
            session.call("braket", "cancel_job", jobArn=run.arn)
        except ProviderError as error:
            if record.latest(folder) != run:  # it was never created, and that is certain now
                self.cancel(folder, grace_s)
                return
            if not isinstance(error, Refusal) or error.code != "ConflictException":  # else it has ended
                raise RunnerError(f"{folder.path.name} could not be cancelled: {error}") from error
        deadline = time.monotonic() + grace_s + 10.0
        while time.monotonic() < deadline and not self.observe(folder).status.is_over:
            time.sleep(min(self.look_every_s, 0.2))

    # Cost ----------------------------------------------------------------------------------------------------------------------

    def cost(self, folder: JobFolder) -> Cost:
        """What the instances cost, from the answers that were kept. Those of a job that is not over are estimated."""
        from pl_hybridjobs.cost.ledger import Cost

        total = Cost()
        for run in record.runs(folder):
            total += instance_cost(run.answer)
        return total

    def prices(self) -> list[str]:
        """See ``Mirroring.prices``."""
        from pl_hybridjobs.cost.prices import INSTANCE, price_of, show

        price = price_of(f"{INSTANCE}:{self.instance_type}")
        return [f"{self.instance_type}: {f'{show(price.per_hour_usd)} an hour' if price else 'its price is not known'}"]


def input_problems(session: Session, spec: JobSpec) -> list[str]:
    """Which inputs in S3 are not there: the service finds that out when an instance has been started for them."""
    found = []
    for name, place in spec.inputs.items():
        bucket, prefix = jobs.split_place(place)
        try:
            if is_remote(place) and not session.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"):
                found.append(f"inputs[{name!r}]: there is nothing at {place}")
        except Refusal as refusal:
            if is_missing(refusal):  # whoever may not look here may be allowed to as the job's role
                found.append(f"inputs[{name!r}]: there is no bucket {bucket!r}")
    return found


def _would_be_listed(session: Session, run: Run) -> bool:
    """Whether a Braket job that the first request had created would have been found by now, with these credentials."""
    return time.time() - float(run.intent["time"]) > _UNLISTED_S and f"::{session.account}:" in run.intent["request"]["roleArn"]


def _began(folder: JobFolder, run: Run) -> bool:
    """Whether an attempt of this run took the lease."""
    latest = folder.latest_attempt()
    return latest is not None and latest.number > int(run.intent["epoch"])


def instance_cost(answer: Mapping[str, Any]) -> Cost:
    """What one Braket job's instance costs."""
    from pl_hybridjobs.cost.ledger import Cost
    from pl_hybridjobs.cost.prices import INSTANCE, price_of

    seconds, is_final = jobs.billed_s(answer, time.time())
    if not seconds:
        return Cost()
    target = f"{INSTANCE}:{(answer.get('instanceConfig') or {}).get('instanceType', 'unknown')}"
    price = price_of(target)
    part = Cost(seconds=seconds, unknown_tasks=1)
    if price is not None:
        usd = price.usd(seconds=seconds)
        part = Cost(usd_final=usd, seconds=seconds) if is_final else Cost(usd_estimated=usd, seconds=seconds)
    return replace(part, by_device={target: part}, by_kind={INSTANCE: part})


def this_python() -> str:
    """Major and minor version, as in "3.12"."""
    return ".".join(bundle.this_python()["version"].split(".")[:2])
