"""The API's operations on hybrid jobs: checked parameters in, the answer of the model out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pl_hybridjobs.emulator.job import Job
from pl_hybridjobs.emulator.jobs import Jobs
from pl_hybridjobs.emulator.model import Refused

Params = Mapping[str, Any]
Answer = dict[str, Any]

MOST_SHOWN_WAITING = 1000
_MOST_SHOWN_POSITION = 15
_ECHOED = (
    "jobName",
    "roleArn",
    "hyperParameters",
    "inputDataConfig",
    "outputDataConfig",
    "stoppingCondition",
    "checkpointConfig",
    "algorithmSpecification",
    "instanceConfig",
    "deviceConfig",
    "associations",
)


class JobOperations:
    """CreateJob, GetJob, CancelJob and SearchJobs.

    Args:
        jobs: Those of the emulator.
        check_tags: Refuses wrong ones.
        page: Cuts rows into pages.
        compare: The filters' operators, by name.
    """

    def __init__(
        self,
        jobs: Jobs,
        check_tags: Callable[[Mapping[str, str]], None],
        page: Callable[[str, Sequence[Any], Params], Answer],
        compare: Mapping[str, Callable[[Any, Sequence[Any]], bool]],
    ) -> None:
        self._jobs, self._check_tags, self._page, self._compare = jobs, check_tags, page, compare
        self.by_name: dict[str, Callable[[Params, str], Answer]] = {
            "CancelJob": self._cancel,
            "CreateJob": self._create,
            "GetJob": self._get,
            "SearchJobs": self._search,
        }

    def _create(self, params: Params, region: str) -> Answer:
        self._check_tags(params.get("tags", {}))
        return {"jobArn": self._jobs.create(params, region)}

    def _get(self, params: Params, region: str) -> Answer:
        job = self._jobs.find(params["jobArn"], region)
        answer: Answer = {
            **{name: job.request.get(name) for name in _ECHOED},
            "jobArn": job.arn,
            "status": job.status,
            "failureReason": job.reason or None,
            "createdAt": job.created,
            "startedAt": job.started,
            "endedAt": job.ended,
            "billableDuration": None if job.billable_s is None else job.billable_s * 1000,
            "events": [{"eventType": e.kind, "timeOfEvent": e.time, "message": e.message} for e in job.events],
            "tags": dict(job.tags),
        }
        if "QueueInfo" in params.get("additionalAttributeNames", ()):
            answer["queueInfo"] = self._queue_info(job)
        return {name: value for name, value in answer.items() if value is not None}

    def _queue_info(self, job: Job) -> Answer:
        position = self._jobs.position(job)
        if position is not None:
            shown = str(position) if position <= _MOST_SHOWN_POSITION else f">{_MOST_SHOWN_POSITION}"
            return {"queue": "JOBS_QUEUE", "position": shown}
        message = f"Job is in {job.status} status. AmazonBraket does not show queue position for this status."
        return {"queue": "JOBS_QUEUE", "position": "None", "message": message}

    def _cancel(self, params: Params, region: str) -> Answer:
        arn = params["jobArn"]
        return {"jobArn": arn, "cancellationStatus": self._jobs.cancel(arn, region)}

    def _search(self, params: Params, region: str) -> Answer:
        found = [job for job in self._jobs.all() if job.region == region]
        for asked in params["filters"]:
            found = [job for job in found if self._matches(job, asked)]
        newest_first = sorted(found, key=lambda job: job.created, reverse=True)
        return self._page("jobs", [_summary(job) for job in newest_first], params)

    def _matches(self, job: Job, asked: Params) -> bool:
        name, operator, values = asked["name"], asked["operator"], asked["values"]
        if name == "jobArn":
            if operator == "CONTAINS":
                return any(value in job.arn for value in values)
            if operator != "EQUAL":
                raise Refused("ValidationException", f"The operator for 'jobArn' must be EQUAL or CONTAINS, not {operator}.")
            return job.arn in values
        if name != "createdAt" or operator not in self._compare:
            raise Refused("ValidationException", f"Jobs cannot be searched by {name!r} {operator}. Known: jobArn, createdAt.")
        try:
            times = [datetime.fromisoformat(text) for text in values]
        except ValueError:
            raise Refused("ValidationException", f"createdAt must be compared to ISO 8601 times, not to {values}.") from None
        return self._compare[operator](job.created, [time if time.tzinfo else time.replace(tzinfo=UTC) for time in times])


def _summary(job: Job) -> Answer:
    answer = {
        "jobArn": job.arn,
        "jobName": job.name,
        "device": job.request["deviceConfig"]["device"],
        "status": job.status,
        "createdAt": job.created,
        "startedAt": job.started,
        "endedAt": job.ended,
        "tags": dict(job.tags),
    }
    return {name: value for name, value in answer.items() if value is not None}
