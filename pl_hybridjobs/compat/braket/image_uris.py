"""The images that Amazon Braket keeps ready."""

from __future__ import annotations

from enum import StrEnum

from pl_hybridjobs.errors import InvalidCall

_REGISTRY = "292282985366"
_REGIONS = ("us-east-1", "us-west-1", "us-west-2", "eu-west-2", "eu-north-1")


class Framework(StrEnum):
    """What an image holds besides the base."""

    BASE = "BASE"
    PL_TENSORFLOW = "PL_TENSORFLOW"
    PL_PYTORCH = "PL_PYTORCH"
    CUDAQ = "CUDAQ"


_REPOSITORIES = {
    Framework.BASE: "base",
    Framework.PL_TENSORFLOW: "tensorflow",
    Framework.PL_PYTORCH: "pytorch",
    Framework.CUDAQ: "cudaq",
}


def retrieve_image(framework: Framework, region: str) -> str:
    """The address of a ready image.

    Args:
        framework: Which one.
        region: An AWS region.

    Raises:
        ValueError: There is no such framework, or Amazon Braket keeps no images in that region.
    """
    name = _REPOSITORIES[Framework(framework)]
    if region not in _REGIONS:
        raise InvalidCall("retrieve_image", [f"Unsupported region: {region}. Supported region(s): {', '.join(_REGIONS)}"])
    return f"{_REGISTRY}.dkr.ecr.{region}.amazonaws.com/amazon-braket-{name}-jobs:latest"
