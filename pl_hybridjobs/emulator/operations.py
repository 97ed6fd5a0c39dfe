"""Each operation of the API: checked parameters in, the answer of the model out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pl_hybridjobs.emulator.devices import Device, Fleet
from pl_hybridjobs.emulator.job_operations import MOST_SHOWN_WAITING as MOST_JOBS_SHOWN
from pl_hybridjobs.emulator.job_operations import JobOperations
from pl_hybridjobs.emulator.jobs import Jobs
from pl_hybridjobs.emulator.limits import Limits, summary
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.tasks import Task, Tasks

Params = Mapping[str, Any]
Answer = dict[str, Any]

_PAGE = 100
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 50, 128, 256
_MOST_SHOWN_WAITING, _MOST_SHOWN_POSITION = 4000, 2000
_COMPARE: dict[str, Callable[[Any, Sequence[Any]], bool]] = {
    "LT": lambda value, given: value < given[0],
    "LTE": lambda value, given: value <= given[0],
    "EQUAL": lambda value, given: value in given,
    "GT": lambda value, given: value > given[0],
    "GTE": lambda value, given: value >= given[0],
    "BETWEEN": lambda value, given: given[0] <= value <= given[-1],
}


class Operations:
    """What the service does, by the operation's name; ``region`` is the one that the request was signed for."""

    def __init__(self, fleet: Fleet, tasks: Tasks, jobs: Jobs, limits: Limits) -> None:
        self._fleet, self._tasks, self._jobs, self._limits = fleet, tasks, jobs, limits
        self._by_name: dict[str, Callable[[Params, str], Answer]] = {
            "CancelQuantumTask": self._cancel_task,
            "CreateQuantumTask": self._create_task,
            "CreateSpendingLimit": self._create_limit,
            "DeleteSpendingLimit": self._delete_limit,
            "GetDevice": self._get_device,
            "GetQuantumTask": self._get_task,
            "ListTagsForResource": self._list_tags,
            "SearchDevices": self._search_devices,
            "SearchQuantumTasks": self._search_tasks,
            "SearchSpendingLimits": self._search_limits,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "UpdateSpendingLimit": self._update_limit,
            **JobOperations(jobs, _check_tags, _page, _COMPARE).by_name,
        }

    def call(self, name: str, params: Params, region: str) -> Answer:
        """Carry out an operation.

        Raises:
            Refused: The service's error.
        """
        operation = self._by_name.get(name)
        if operation is None:
            raise Refused("ValidationException", f"{name} is not in this version of the emulator.")
        return operation(params, region)

    # Devices

    def _get_device(self, params: Params, region: str) -> Answer:
        device = self._fleet.in_region(params["deviceArn"], region)
        priority, normal = self._tasks.depth(device)
        queues = [
            {"queue": "QUANTUM_TASKS_QUEUE", "queueSize": _capped(normal, _MOST_SHOWN_WAITING), "queuePriority": "Normal"},
            {"queue": "QUANTUM_TASKS_QUEUE", "queueSize": _capped(priority, _MOST_SHOWN_WAITING), "queuePriority": "Priority"},
            {"queue": "JOBS_QUEUE", "queueSize": _capped(self._jobs.depth(device), MOST_JOBS_SHOWN)},
        ]
        return {**self._device(device), "deviceCapabilities": device.capabilities_text, "deviceQueueInfo": queues}

    def _device(self, device: Device) -> Answer:
        return {
            "deviceArn": device.arn,
            "deviceName": device.name,
            "providerName": device.provider,
            "deviceType": device.kind,
            "deviceStatus": self._fleet.status(device.arn),
        }

    def _search_devices(self, params: Params, region: str) -> Answer:
        found = [self._device(device) for device in self._fleet.visible(region)]
        for asked in params["filters"]:
            if asked["name"] not in ("deviceArn", "deviceName", "providerName", "deviceType", "deviceStatus"):
                raise Refused("ValidationException", f"Devices cannot be searched by {asked['name']!r}.")
            found = [row for row in found if row[asked["name"]] in asked["values"]]
        return _page("devices", found, params)

    # Tasks

    def _create_task(self, params: Params, region: str) -> Answer:
        _check_tags(params.get("tags", {}))
        return {"quantumTaskArn": self._tasks.create(params, region)}

    def _get_task(self, params: Params, region: str) -> Answer:
        task = self._tasks.find(params["quantumTaskArn"], region)
        request = task.request
        answer: Answer = {
            **_task_summary(task),
            "deviceParameters": request.get("deviceParameters", "{}"),
            "failureReason": task.reason or None,
            "jobArn": task.job or None,
            "associations": request.get("associations"),
            "numSuccessfulShots": task.successful_shots if task.status == "COMPLETED" else None,
            "actionMetadata": dict(task.metadata),
            "experimentalCapabilities": request.get("experimentalCapabilities"),
        }
        if "QueueInfo" in params.get("additionalAttributeNames", ()):
            answer["queueInfo"] = self._queue_info(task)
        return {name: value for name, value in answer.items() if value is not None}

    def _queue_info(self, task: Task) -> Answer:
        position = self._tasks.position(task)
        info = {
            "queue": "QUANTUM_TASKS_QUEUE",
            "queuePriority": "Priority" if task.has_priority else "Normal",
            "position": "None" if position is None else _capped(position, _MOST_SHOWN_POSITION),
        }
        if position is None:
            info["message"] = f"Task is in {task.status} status. AmazonBraket does not show queue position for this status."
        return info

    def _cancel_task(self, params: Params, region: str) -> Answer:
        arn = params["quantumTaskArn"]
        return {"quantumTaskArn": arn, "cancellationStatus": self._tasks.cancel(arn, region)}

    def _search_tasks(self, params: Params, region: str) -> Answer:
        found = [task for task in self._tasks.all() if task.region == region]
        for asked in params["filters"]:
            found = [task for task in found if _matches(task, asked)]
        newest_first = sorted(found, key=lambda task: task.created, reverse=True)
        return _page("quantumTasks", [_task_summary(task) for task in newest_first], params)

    # Spending limits

    def _create_limit(self, params: Params, region: str) -> Answer:
        tags = params.get("tags", {})
        _check_tags(tags)
        device = self._fleet.in_region(params["deviceArn"], region)
        return {"spendingLimitArn": self._limits.create(device, params["spendingLimit"], params.get("timePeriod"), tags, region).arn}

    def _update_limit(self, params: Params, region: str) -> Answer:
        del region
        self._limits.update(params["spendingLimitArn"], params.get("spendingLimit"), params.get("timePeriod"))
        return {}

    def _delete_limit(self, params: Params, region: str) -> Answer:
        del region
        self._limits.delete(params["spendingLimitArn"])
        return {}

    def _search_limits(self, params: Params, region: str) -> Answer:
        found = [limit for limit in self._limits.all() if limit.arn.split(":")[3] == region]
        for asked in params.get("filters", ()):
            if asked["name"] != "deviceArn":
                raise Refused("ValidationException", f"Spending limits cannot be searched by {asked['name']!r}, only by 'deviceArn'.")
            found = [limit for limit in found if limit.device in asked["values"]]
        return _page("spendingLimits", [summary(limit) for limit in found], params)

    # Tags

    def _list_tags(self, params: Params, region: str) -> Answer:
        return {"tags": self._tags_of(params["resourceArn"], region)}

    def _tag(self, params: Params, region: str) -> Answer:
        tags = {**self._tags_of(params["resourceArn"], region), **params["tags"]}
        _check_tags(tags)
        self._set_tags(params["resourceArn"], region, tags)
        return {}

    def _untag(self, params: Params, region: str) -> Answer:
        kept = {k: v for k, v in self._tags_of(params["resourceArn"], region).items() if k not in params["tagKeys"]}
        self._set_tags(params["resourceArn"], region, kept)
        return {}

    def _tags_of(self, arn: str, region: str) -> dict[str, str]:
        if ":job/" in arn:
            return dict(self._jobs.find(arn, region).tags)
        found = self._limits.find(arn) if ":spending-limit/" in arn else self._tasks.find(arn, region)
        return dict(found.tags)

    def _set_tags(self, arn: str, region: str, tags: Mapping[str, str]) -> None:
        if ":spending-limit/" in arn:
            self._limits.tag(arn, tags)
        elif ":job/" in arn:
            self._jobs.tag(arn, region, tags)
        else:
            self._tasks.tag(arn, region, tags)


def _task_summary(task: Task) -> Answer:
    answer = {
        "quantumTaskArn": task.arn,
        "status": task.status,
        "deviceArn": task.device.arn,
        "shots": task.request["shots"],
        "outputS3Bucket": task.request["outputS3Bucket"],
        "outputS3Directory": task.directory,
        "createdAt": task.created,
        "tags": dict(task.tags),
    }
    return {**answer, "endedAt": task.ended} if task.ended and task.status in ("COMPLETED", "FAILED", "CANCELLED") else answer


def _matches(task: Task, asked: Mapping[str, Any]) -> bool:
    fields: dict[str, Any] = {
        "quantumTaskArn": task.arn,
        "deviceArn": task.device.arn,
        "jobArn": task.job,
        "status": task.status,
        "createdAt": task.created,
    }
    name, operator, values = asked["name"], asked["operator"], asked["values"]
    tagged = name.removeprefix("tags:")
    if name not in fields and tagged == name:
        raise Refused("ValidationException", f"Quantum tasks cannot be searched by {name!r}. Known: {', '.join(fields)}, tags:KEY.")
    if name != "createdAt":
        if operator != "EQUAL":
            raise Refused("ValidationException", f"The operator for {name!r} must be EQUAL, not {operator}.")
        return (task.tags.get(tagged) if name not in fields else fields[name]) in values
    try:
        times = [datetime.fromisoformat(text) for text in values]
    except ValueError:
        raise Refused("ValidationException", f"createdAt must be compared to ISO 8601 times, not to {values}.") from None
    return _COMPARE[operator](task.created, [time if time.tzinfo else time.replace(tzinfo=UTC) for time in times])


def _page(name: str, rows: Sequence[Any], params: Params) -> Answer:
    """So many rows from where the token says."""
    token = params.get("nextToken")
    try:
        begin = int(base64.b64decode(token, validate=True)) if token else 0
    except ValueError:
        raise Refused("ValidationException", f"The token {token!r} is not one of ours.") from None
    end = begin + params.get("maxResults", _PAGE)
    more = {"nextToken": base64.b64encode(str(end).encode()).decode()} if end < len(rows) else {}
    return {name: list(rows[begin:end]), **more}


def _capped(count: int, most: int) -> str:
    return f">{most}" if count > most else str(count)


def _check_tags(tags: Mapping[str, str]) -> None:
    complaints = [f"the tag {key!r} begins with aws:, which is reserved" for key in tags if key.lower().startswith("aws:")]
    long = [key for key, value in tags.items() if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE]
    complaints += [f"the tag {key[:20]!r} has a key or a value that is too long" for key in long]
    if len(tags) > _MOST_TAGS:
        complaints.append(f"{len(tags)} tags are more than {_MOST_TAGS}")
    if complaints:
        raise Refused("ValidationException", "; ".join(complaints))
