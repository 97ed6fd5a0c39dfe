"""The images that Amazon Braket keeps ready."""

from __future__ import annotations

from enum import StrEnum

from pl_hybridjobs.braket.jobs import IMAGE_REGIONS, image_address
from pl_hybridjobs.errors import InvalidCall


class Framework(StrEnum):
    """What an image holds besides the base."""

    BASE = "BASE"
    PL_TENSORFLOW = "PL_TENSORFLOW"
    PL_PYTORCH = "PL_PYTORCH"
    CUDAQ = "CUDAQ"


def retrieve_image(framework: Framework, region: str) -> str:
    """The address of a ready image.

    Args:
        framework: Which one.
        region: An AWS region.

    Raises:
        ValueError: There is no such framework, or Amazon Braket keeps no images in that region.
    """
    name = Framework(framework).removeprefix("PL_").lower()
    if region not in IMAGE_REGIONS:
        raise InvalidCall("retrieve_image", [f"Unsupported region: {region}. Supported region(s): {', '.join(IMAGE_REGIONS)}"])
    return image_address(name, region)
