"""The way to Amazon Web Services: region, credentials, clients, the bucket for results, and which requests are sent again.

Every request goes through ``Session.call``. It repeats what was throttled, what met an error of the service or of the network, and what
was refused since this machine's clock is wrong (it then signs by the service's clock), with growing random pauses ("full jitter": Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015). After an error that leaves open whether a request was carried out, only
those are repeated that may be carried out twice: reads, and what carries a client token.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import ProviderError

#: What names look like.
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
RESERVATION = re.compile(r"arn:aws[a-z-]*:braket:([a-z0-9-]+):\d{12}:reservation/.+")

TRY_WITHOUT = "Without an account, `hybridjobs emulator` starts an offline Amazon Braket to try things with."

_QUOTA = "ServiceQuotaExceededException"
_THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        _QUOTA,  # of tasks in flight: some will end
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"})
_BAD_CREDENTIALS = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"}
)
_READS = ("batch_get_", "describe_", "get_", "head_", "list_", "search_")
_REPEATABLE = frozenset({("s3", "create_bucket"), ("s3", "put_object")})  # the second time changes nothing
_LEAST_SKEW_S = 60.0  # AWS takes signatures that are up to five minutes old: less is no reason for a refusal
_TIMEOUT_S = 30.0
_SHARED_S = 900.0
_NAMES = {
    "braket": "Amazon Braket's",
    "ecr": "Amazon ECR's",
    "iam": "IAM's",
    "logs": "CloudWatch Logs'",
    "s3": "S3's",
    "service-quotas": "Service Quotas'",
    "sts": "STS's",
}
_NETWORK = "Check the network, the region, and the AWS_ENDPOINT_URL variables of the environment."
_NO_REGION = (
    "no region is known: this device is in several, and neither region= nor AWS_REGION, AWS_DEFAULT_REGION or a profile names one. "
    "Write for example region='us-east-1'."
)


class Refusal(ProviderError):
    """A service of AWS says no.

    Args:
        code: As the service names it, such as ``"ValidationException"``.
        message: Its words.
        operation: What was asked of it.
        advice: What to do.
    """

    def __init__(self, code: str, message: str, operation: str, advice: str = "") -> None:
        self.code, self.message, self.operation, self.advice = code, message, operation, advice
        super().__init__(f"{operation} said no: {message} ({code})." + (f" {advice}" if advice else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.operation, self.advice)


@dataclass(frozen=True)
class Retries:
    """How long to go on.

    Attributes:
        attempts: In all, the first one included.
        first_s: The longest pause before the second attempt; each further one may be twice as long.
        longest_s: Of all pauses.
    """

    attempts: int = 12
    first_s: float = 0.1
    longest_s: float = 10.0

    def pause_s(self, failures: int) -> float:
        """A random pause after so many failures."""
        return random.uniform(0, min(self.longest_s, self.first_s * 2 ** (failures - 1)))  # noqa: S311 - no secret


class Session:
    """One region of one account. Making it contacts nothing; its methods may be called from several threads.

    Args:
        region: "": the environment's or the profile's.
        profile: A profile of the AWS configuration files; "": the usual one.
        bucket: For results. "": that of the Braket job we are in, else ``amazon-braket-<region>-<account>``, made if missing.
        prefix: Of keys in the bucket. "": that of the Braket job, else "tasks".
        endpoint_url: Of all services, such as an emulator's; "": as the environment says, else Amazon's own.
        retries: How long to go on after passing faults.
        at_once: How many requests for the same operation; more wait for their turn, which costs less than to make them all slow.
        credentials: Key, secret and token, such as an emulator's; None: those that boto3 finds.
    """

    def __init__(
        self,
        *,
        region: str = "",
        profile: str = "",
        bucket: str = "",
        prefix: str = "",
        endpoint_url: str = "",
        retries: Retries | None = None,
        at_once: int = 16,
        credentials: tuple[str, str, str] | None = None,
    ) -> None:
        self.skew_s = 0.0  # how far the service's clock goes ahead of ours
        self._region, self._profile, self._bucket, self._prefix = region, profile, bucket, prefix.strip("/")
        self._endpoint_url = endpoint_url
        self._retries = retries or Retries()
        self._at_once = at_once
        self._turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(at_once))
        self._credentials = credentials
        self._session: Any = None
        self._user_agent = ""
        self._clients: dict[str, Any] = {}
        self._account = ""
        self._location: tuple[str, str] | None = None
        self._lock = threading.RLock()

    @property
    def region(self) -> str:
        """Where requests go.

        Raises:
            ProviderError: Nothing names it.
        """
        region = self._region or os.environ.get("AWS_REGION") or self._boto().region_name
        if not region:
            raise ProviderError(_NO_REGION)
        return str(region)

    def now(self) -> datetime:
        """By the service's clock, as far as it is known."""
        return datetime.now(UTC) + timedelta(seconds=self.skew_s)

    def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Send a request, and again while that may help.

        Args:
            service: boto3's name of it, such as ``"braket"``; one of those that this package uses.
            operation: boto3's name of it, such as ``"get_device"``.
            **request: Its parameters.

        Raises:
            Refusal: The service's answer is no.
            ProviderError: There are no credentials, or the service cannot be reached.
        """
        return dict(self._persist(service, operation, request, lambda reply: reply))

    def read(self, bucket: str, key: str, *, start: int = 0) -> bytes:
        """An object of S3, or what of it begins at a byte.

        Raises:
            Refusal: Also where it is not there: ``is_missing`` tells.
            ProviderError: S3 cannot be reached.
        """
        part = {"Range": f"bytes={start}-"} if start else {}
        return bytes(self._persist("s3", "get_object", {"Bucket": bucket, "Key": key, **part}, lambda reply: reply["Body"].read()))

    def pages(self, service: str, operation: str, place: str | tuple[str, str] = "nextToken", **request: Any) -> Iterator[dict[str, Any]]:
        """All pages of an answer, each asked for when it is wanted. See ``call``.

        Args:
            service: As in ``call``.
            operation: As in ``call``.
            place: What the place of the next page is called; in the request and in the answer, where that differs.
            **request: As in ``call``.
        """
        asked, told = (place, place) if isinstance(place, str) else place
        page = self.call(service, operation, **request)
        yield page
        while page.get(told):
            page = self.call(service, operation, **request, **{asked: page[told]})
            yield page

    def objects(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        """All objects whose keys begin so, as S3's ListObjectsV2 tells of them."""
        for page in self.pages("s3", "list_objects_v2", ("ContinuationToken", "NextContinuationToken"), Bucket=bucket, Prefix=prefix):
            yield from page.get("Contents", ())

    def location(self) -> tuple[str, str]:
        """Bucket and prefix for results; looked at once, and made if it is ours to make.

        Raises:
            ProviderError: The bucket is somebody else's, or is not there.
        """
        with self._lock:
            if self._location is None:
                self._location = self._choose_location()
            return self._location

    @property
    def account(self) -> str:
        """The number of the account whose credentials these are."""
        return self._account_id()

    def check_bucket(self) -> None:
        """Look at the bucket for results, and make none.

        Raises:
            ProviderError: It is somebody else's, or was named and is not there.
        """
        self._find_bucket()

    def choices(self, service: str, shape: str) -> tuple[str, ...]:
        """What boto3 knows that a service takes for a kind of value, such as ``"InstanceType"``; contacts nobody."""
        return tuple(self._client(service).meta.service_model.shape_for(shape).enum)

    # Clients -----------------------------------------------------------------------------------------------------------------

    def _boto(self) -> Any:
        with self._lock:
            if self._session is None:
                import boto3
                from botocore.exceptions import BotoCoreError
                from botocore.session import Session as CoreSession

                try:
                    core = CoreSession(profile=self._profile or None)
                    core.register_component("data_loader", _loader())
                    if self._credentials is not None:
                        core.set_credentials(*self._credentials)
                    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time_of)
                    self._session = boto3.Session(botocore_session=core, region_name=self._region or None)
                    self._user_agent = f"{core.user_agent()} app/pl-hybridjobs"
                    found = self._session.get_credentials()
                except BotoCoreError as error:
                    raise ProviderError(_without_credentials(self._profile, str(error))) from error
                if found is None:
                    self._session = None
                    raise ProviderError(_without_credentials(self._profile))
            return self._session

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                from botocore.config import Config

                boto = self._boto()
                config = Config(
                    retries={"total_max_attempts": 1},  # we know what may be repeated, botocore does not
                    max_pool_connections=4 * self._at_once,
                    connect_timeout=_TIMEOUT_S,
                    read_timeout=_TIMEOUT_S,
                    user_agent=self._user_agent,  # botocore makes its own anew for each request
                )
                # The environment's AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_BRAKET are boto3's work; this one is Braket's own SDK's.
                endpoint = self._endpoint_url or (os.environ.get("BRAKET_ENDPOINT") if service == "braket" else None)
                client = boto.client(service, region_name=self.region, config=config, endpoint_url=endpoint)
                client.meta.events.register(f"choose-signer.{service}", self._choose_signer)
                self._clients[service] = client
            return self._clients[service]

    def _choose_signer(self, context: dict[str, Any], signing_name: str, **_: Any) -> str | None:
        if not self.skew_s:
            return None
        context["hybridjobs_skew_s"] = self.skew_s
        return _shifted_signer(is_s3=signing_name == "s3")

    # Sending -----------------------------------------------------------------------------------------------------------------

    def _persist(self, service: str, operation: str, request: dict[str, Any], take: Callable[[Any], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        client = self._client(service)
        required = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).output_shape.required_members
        is_repeatable = operation.startswith(_READS) or "clientToken" in request or (service, operation) in _REPEATABLE
        with self._lock:
            turn = self._turns[operation]
        attempt, is_doubtful = 0, False
        while True:
            attempt += 1
            skew_s = self.skew_s
            if hasattr(request.get("Body"), "seek"):  # the attempt before has read it
                request["Body"].seek(0)
            try:
                with turn:
                    reply = getattr(client, operation)(**request)
                    if required and not set(required) & set(reply):  # what botocore makes of torn JSON
                        raise ResponseParserError(f"the answer has none of {', '.join(required)}")
                    return take(reply)
            except (ClientError, BotoCoreError, ResponseParserError) as error:
                if attempt >= self._retries.attempts or not self._may_pass(error, operation, is_repeatable, skew_s):
                    explained = self._explained(error, service, operation, attempt)
                    explained.nothing_done = not is_doubtful and _is_certain(error)
                    raise explained from error
                is_doubtful = is_doubtful or not _is_certain(error)
            time.sleep(self._retries.pause_s(attempt))

    def _may_pass(self, error: Any, operation: str, is_repeatable: bool, skew_s: float) -> bool:
        """Whether it makes sense, and is safe, to send a request again that was signed with this skew."""
        from botocore.exceptions import ClientError

        if not isinstance(error, ClientError):
            return isinstance(error, _network_errors()) and (is_repeatable or _is_certain(error))
        code, answer = error.response["Error"].get("Code", ""), error.response.get("ResponseMetadata", {})
        if code == _QUOTA and operation == "create_job":  # of jobs or instances, which last for hours, or are none
            return False
        if code in _THROTTLED or answer.get("HTTPStatusCode") == 429:
            return True
        if code in _SKEWED:
            self._learn_time(answer.get("HTTPHeaders", {}).get("date", ""))
            return abs(self.skew_s - skew_s) > _LEAST_SKEW_S
        return is_repeatable and answer.get("HTTPStatusCode", 0) >= 500

    def _learn_time(self, date: str) -> None:
        with contextlib.suppress(ValueError, TypeError):
            self.skew_s = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()

    def _explained(self, error: Any, service: str, operation: str, attempts: int) -> ProviderError:
        from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

        name = _NAMES[service] + " " + "".join(part.title() for part in operation.split("_"))
        if isinstance(error, ClientError):
            told = error.response["Error"]
            code = str(told.get("Code", "unknown"))
            message = str(told.get("Message") or error.response.get("message") or "no reason was given").rstrip(".")
            return Refusal(code, message, name, self._advice(code, service, operation, attempts))
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return ProviderError(_without_credentials(self._profile, str(error)))
        if isinstance(error, _network_errors()):
            where = self._client(service).meta.endpoint_url
            return ProviderError(
                f"{name}: no proper answer from {where} in {attempts} attempts, the last time: {error}. {_NETWORK} {TRY_WITHOUT}"
            )
        return ProviderError(f"{name} could not be sent: {error}")

    def _advice(self, code: str, service: str, operation: str, attempts: int) -> str:
        if code in _SKEWED and abs(self.skew_s) > _LEAST_SKEW_S:
            return f"The service's clock goes {self.skew_s:+.0f} s ahead of this machine's: set this machine's clock."
        if code in _SKEWED or code in _BAD_CREDENTIALS:
            return f"The credentials of {_profile_name(self._profile)} are wrong or have expired; log in again. {TRY_WITHOUT}"
        if code == _QUOTA and operation == "create_job":
            return (
                "Wait until a job has ended, choose another instance_type (many GPUs have a quota of 0), or ask AWS for a larger quota "
                "(console: Service Quotas, Amazon Braket)."
            )
        if code == _QUOTA:
            return f"Tried {attempts} times. Lower max_parallel, or ask AWS for a larger quota (console: Service Quotas, Amazon Braket)."
        if code in _THROTTLED:
            return f"Tried {attempts} times. Others of the same account may be sending, too: lower max_parallel, or try later."
        if code.startswith("AccessDenied") and operation == "create_job":
            return "Ask for the permissions braket:CreateJob and, on the job's role, iam:PassRole (AmazonBraketFullAccess has both)."
        if code.startswith("AccessDenied") and service == "braket":
            action = "".join(part.title() for part in operation.split("_"))
            return f"Ask for the permission braket:{action} (the managed policy AmazonBraketFullAccess has it)."
        return f"Tried {attempts} times." if attempts > 1 else ""

    # The bucket --------------------------------------------------------------------------------------------------------------

    def _choose_location(self) -> tuple[str, str]:
        job_bucket = os.environ.get("AMZN_BRAKET_OUT_S3_BUCKET", "")
        prefix = self._prefix or _job_prefix(job_bucket) or "tasks"
        if not self._bucket and job_bucket:
            return job_bucket, prefix  # the job's own role need not be allowed to look at it
        bucket, is_there = self._find_bucket()
        if not is_there:
            self._create(bucket)
        return bucket, prefix

    def _find_bucket(self) -> tuple[str, bool]:
        """Its name, and whether it is there; only the usual one may be missing."""
        bucket = self._bucket or f"amazon-braket-{self.region}-{self._account_id()}"
        is_there = self._has(bucket)
        if self._bucket and not is_there:
            raise ProviderError(f"the bucket {bucket!r} for results does not exist. Create it in {self.region}, or leave bucket= out.")
        return bucket, is_there

    def _account_id(self) -> str:
        if not self._account:
            self._account = str(self.call("sts", "get_caller_identity")["Account"])
        return self._account

    def _has(self, bucket: str) -> bool:
        """Whether it is there, and ours."""
        try:
            self.call("s3", "head_bucket", Bucket=bucket, ExpectedBucketOwner=self._account_id())
        except Refusal as refusal:
            if is_missing(refusal):
                return False
            if refusal.code in ("403", "AccessDenied"):
                raise ProviderError(
                    f"the bucket {bucket!r} for results belongs to another account than {self._account_id()}, or this user may not see it. "
                    "Results of tasks could be read or replaced by its owner: name one of your own as bucket=."
                ) from refusal
            raise
        return True

    def _create(self, bucket: str) -> None:
        place = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        try:
            self.call("s3", "create_bucket", Bucket=bucket, **place)
        except Refusal as refusal:
            if refusal.code == "BucketAlreadyExists":
                raise ProviderError(
                    f"the bucket {bucket!r}, where Amazon Braket's results go by default, belongs to another account: name one as bucket=."
                ) from refusal
            if refusal.code not in ("BucketAlreadyOwnedByYou", "OperationAborted"):  # another process makes it at this moment
                raise


def shared(**options: Any) -> Session:
    """A session that is made once for the same options and the same environment: its clients take longer to make than a request.

    Args:
        **options: As for ``Session``.
    """
    around = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(("AWS_", "AMZN_BRAKET_", "BRAKET_"))))
    # After a while anew: the files with credentials may have been written again.
    return _shared(os.getpid(), int(time.time() // _SHARED_S), around, tuple(sorted(options.items())))


@lru_cache(maxsize=8)
def _shared(pid: int, period: int, around: tuple[tuple[str, str], ...], options: tuple[tuple[str, Any], ...]) -> Session:
    del pid, period, around
    return Session(**dict(options))


def is_missing(refusal: Refusal) -> bool:
    """Whether S3 says that something is not there."""
    return refusal.code in ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


def _job_prefix(bucket: str) -> str:
    """Where the Braket job that we are in wants its tasks' results."""
    return os.environ.get("AMZN_BRAKET_TASK_RESULTS_S3_URI", "").removeprefix(f"s3://{bucket}/").strip("/") if bucket else ""


def _profile_name(profile: str) -> str:
    name = profile or os.environ.get("AWS_PROFILE") or ""
    return f"profile {name!r}" if name else "the environment or of the default profile"


def _without_credentials(profile: str, problem: str = "") -> str:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [key for key in keys if not os.environ.get(key)]
    files = [
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser(),
        Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser(),
    ]
    wanted = profile or os.environ.get("AWS_PROFILE") or "default"
    looked = [
        f"the environment ({' and '.join(missing)} not set)" if missing else "the environment",
        f"profile {wanted!r} of " + " and ".join(f"{path}{'' if path.is_file() else ' (no such file)'}" for path in files),
        "the role of a container or of an EC2 instance",
    ]
    return (
        f"no AWS credentials were found{f' ({problem})' if problem else ''}. Looked for, in this order: {'; '.join(looked)}. "
        f"`aws configure` or `aws sso login` writes them. {TRY_WITHOUT}"
    )


def _is_certain(error: Any) -> bool:
    """Whether the request was certainly not carried out: refused, or never sent."""
    from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return bool(status < 500)
    return isinstance(error, ConnectTimeoutError | EndpointConnectionError) or not isinstance(error, _network_errors())


@cache
def _network_errors() -> tuple[type[Exception], ...]:
    """No answer, or half of one."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError, IncompleteReadError
    from botocore.parsers import ResponseParserError

    return NoConnection, HTTPClientError, IncompleteReadError, ResponseParserError


def _time_of(value: Any) -> datetime:
    """As botocore reads times, but those in ISO 8601 at once: a search has two hundred, which took it longer than all the rest."""
    from botocore.utils import parse_timestamp

    if isinstance(value, str) and "T" in value:
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value)
    found: datetime = parse_timestamp(value)
    return found


@cache
def _loader() -> Any:
    """What botocore knows of services, read once in a process: that takes half a second."""
    from botocore.loaders import create_loader

    return create_loader(os.environ.get("AWS_DATA_PATH"))


@cache
def _shifted_signer(*, is_s3: bool) -> str:
    """The name under which botocore knows a signature by the service's clock."""
    from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth, SigV4Auth
    from botocore.compat import get_current_datetime

    base: Any = S3SigV4Auth if is_s3 else SigV4Auth

    class Shifted(base):  # type: ignore[misc]
        """As botocore's, at another time."""

        def _modify_request_before_signing(self, request: Any) -> None:
            shifted = get_current_datetime() + timedelta(seconds=request.context["hybridjobs_skew_s"])
            request.context["timestamp"] = shifted.strftime(SIGV4_TIMESTAMP)
            super()._modify_request_before_signing(request)

    name = f"hybridjobs-{'s3' if is_s3 else 'v4'}"
    AUTH_TYPE_MAPS[name] = Shifted
    return name
