"""Amazon Braket's API as botocore's own service model describes it: routes, what a request must hold, what an error looks like."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

_LABEL = re.compile(r"\\\{(\w+)\\\}")


class Refused(Exception):
    """The service's answer is an error of its model.

    Args:
        code: The error's shape, for example ``"ValidationException"``.
        message: What people read.
        **members: Other members of the shape.
    """

    def __init__(self, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.code, self.members = code, {"message": message, **members}

    @property
    def status(self) -> int:
        """The HTTP status that the model gives it; 403 for what comes from the door, before the service."""
        shapes = service_model().shape_names
        return int(service_model().shape_for(self.code).metadata["error"]["httpStatusCode"]) if self.code in shapes else 403


@cache
def service_model() -> ServiceModel:
    """The newest version that this botocore knows."""
    return ServiceModel(Loader().load_service_model("braket", "service-2"), "braket")


@cache
def _routes() -> tuple[tuple[str, re.Pattern[str], OperationModel], ...]:
    found = []
    for name in service_model().operation_names:
        operation = service_model().operation_model(name)
        path = _LABEL.sub(r"(?P<\1>[^/]+)", re.escape(operation.http["requestUri"]))
        found.append((operation.http["method"], re.compile(path), operation))
    return tuple(found)


def request_of(method: str, target: str, body: bytes) -> tuple[OperationModel, dict[str, Any]]:
    """Which operation is called, and with what.

    Args:
        method: The HTTP method.
        target: Path and query as they came over the wire: a slash of an ARN is still ``%2F``.
        body: JSON, or nothing.

    Returns:
        The operation and its checked parameters, timestamps as ``datetime``.

    Raises:
        Refused: No such operation, or not such parameters.
    """
    path, _, query = target.partition("?")
    for verb, pattern, operation in _routes():
        if verb == method and (match := pattern.fullmatch(path)):
            params = _parameters(operation, {k: unquote(v) for k, v in match.groupdict().items()}, query, body)
            complaints = complaints_of(params, operation.input_shape)
            if complaints:
                raise Refused("ValidationException", f"{len(complaints)} validation error(s): {'; '.join(complaints)}")
            return operation, params
    raise Refused("AccessDeniedException", f"Unable to determine service/operation name to be authorized: {method} {path}")


def _parameters(operation: OperationModel, labels: dict[str, str], query: str, body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body or b"{}")
    except ValueError as error:
        raise Refused("ValidationException", f"The request's body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refused("ValidationException", "The request's body is not a JSON object.")
    pairs = parse_qsl(query, keep_blank_values=True)
    params: dict[str, Any] = {}
    for name, shape in operation.input_shape.members.items():
        place, key = shape.serialization.get("location"), shape.serialization.get("name", name)
        if place == "uri":
            params[name] = labels[key]
        elif place == "querystring":
            values = [value for k, value in pairs if k == key]
            if values:
                params[name] = values if isinstance(shape, ListShape) else values[-1]
        elif given.get(key) is not None:
            params[name] = _read(given[key], shape)
    return params


def _read(value: Any, shape: Shape) -> Any:
    """A JSON value with its timestamps made ``datetime``."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {name: _read(value[name], member) for name, member in shape.members.items() if value.get(name) is not None}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_read(item, shape.member) for item in value]
    if shape.type_name == "timestamp" and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return value


def complaints_of(params: Any, shape: Shape) -> list[str]:
    """What is wrong with a structure: botocore's own validator, and what that leaves to the service (largest sizes, patterns, names)."""
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        return [" ".join(line.split()) for line in report.generate_report().splitlines()]
    return list(_beyond(params, shape, ""))


def _beyond(value: Any, shape: Shape, path: str) -> list[str]:
    if isinstance(shape, StructureShape):
        return [c for name, member in shape.members.items() if name in value for c in _beyond(value[name], member, f"{path}.{name}")]
    if isinstance(shape, ListShape):
        return [*_size(len(value), shape, path), *(c for i, v in enumerate(value) for c in _beyond(v, shape.member, f"{path}[{i}]"))]
    if isinstance(shape, MapShape):
        keys = [c for key in value for c in _beyond(key, shape.key, f"{path} (key {key[:20]!r})")]
        return [*_size(len(value), shape, path), *keys, *(c for key, v in value.items() for c in _beyond(v, shape.value, f"{path}.{key}"))]
    if isinstance(shape, StringShape):
        return _text(value, shape, path)
    return _size(value, shape, path) if shape.type_name in ("integer", "long") else []


def _text(value: str, shape: StringShape, path: str) -> list[str]:
    found = _size(len(value), shape, path)
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        found.append(f"Value {value!r} at {path[1:]!r} must match {pattern}")
    if shape.enum and value not in shape.enum:
        found.append(f"Value {value!r} at {path[1:]!r} must be one of {shape.enum}")
    return found


def _size(size: float, shape: Shape, path: str) -> list[str]:
    most = shape.metadata.get("max")
    return [f"{path[1:]!r} is {size}, more than {most}"] if most is not None and size > most else []


def body_of(operation: OperationModel, answer: Mapping[str, Any]) -> bytes:
    """An answer as JSON.

    Raises:
        AssertionError: It is not what the model promises: a defect of the emulator.
    """
    complaints = complaints_of(answer, operation.output_shape)
    assert not complaints, f"{operation.name} answered what its model does not allow: {complaints}"
    return json.dumps(_written(answer), default=_timestamp).encode()


def _written(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if value is not None}


def _timestamp(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(f"{value!r} cannot be written as JSON")
