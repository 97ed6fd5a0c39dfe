"""What moto does not answer, or answers wrongly, beside Braket: images of Amazon's own registry, queries of logs, the default role."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pl_hybridjobs.emulator import roles
from pl_hybridjobs.emulator.cloudwatch import Insights, QueryRefused
from pl_hybridjobs.emulator.images import AMAZON, Images
from pl_hybridjobs.emulator.model import service_model

Environ = dict[str, Any]
Reply = tuple[int, bytes]


class Beside:
    """Looks at requests before moto does.

    Args:
        images: What Amazon's registry has.
        quotas: How many instances jobs may have, by patterns of their types.
    """

    def __init__(self, images: Images, quotas: Mapping[str, int]) -> None:
        self._images, self._quotas = images, dict(quotas)
        insights = Insights()
        self._queries: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
            "Logs_20140328.StartQuery": insights.start_query,
            "Logs_20140328.GetQueryResults": insights.get_query_results,
        }

    def answer(self, environ: Environ, service: str, region: str) -> Reply | None:
        """Status and body (JSON); None: it is moto's to answer."""
        if service == "iam":
            roles.make_default()
            return None
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        if operation in self._queries:
            try:
                return 200, json.dumps(self._queries[operation](_params(environ), region)).encode()
            except QueryRefused as refused:
                return _error(refused.code, str(refused))
        if operation.endswith(".ListServiceQuotas"):
            return 200, json.dumps({"Quotas": self._service_quotas()}).encode()
        if operation.endswith(".BatchGetImage"):
            return self._image(_params(environ), region)
        return None

    def _service_quotas(self) -> list[dict[str, Any]]:
        """One for each instance type that has one here: the smallest of its patterns', for a job must keep within all of them."""
        kinds: dict[str, int] = {}
        for pattern, most in self._quotas.items():
            for kind in service_model().shape_for("InstanceType").enum:
                if fnmatchcase(kind, pattern):
                    kinds[kind] = min(most, kinds.get(kind, most))
        return [
            {"ServiceCode": "braket", "QuotaName": f"Number of {kind} instances for jobs", "Value": most} for kind, most in kinds.items()
        ]

    def _image(self, params: Mapping[str, Any], region: str) -> Reply | None:
        if params.get("registryId") != AMAZON:
            return None
        found = []
        for wanted in params["imageIds"]:
            images = self._images.described(region, params["repositoryName"], wanted)
            if images is None:
                return _error(
                    "RepositoryNotFoundException", f"There is no repository {params['repositoryName']!r} in the registry {AMAZON}."
                )
            found += images
        return 200, json.dumps({"images": found, "failures": []}).encode()


def _params(environ: Environ) -> dict[str, Any]:
    """The body, which stays readable for moto."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    found: dict[str, Any] = json.loads(body or b"{}")
    return found


def _error(code: str, message: str) -> Reply:
    return 400, json.dumps({"__type": code, "message": message}).encode()
