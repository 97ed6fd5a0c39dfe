"""Code and data in S3, brought to this machine with the account that boto3 finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.braket.jobs import split_place
from pl_hybridjobs.errors import ProviderError

if TYPE_CHECKING:
    from pl_hybridjobs.braket.session import Session


def account(session: Any) -> dict[str, str]:
    """Region and profile of an ``AwsSession`` or a session of boto3, as far as it says."""
    boto = getattr(session, "boto_session", session)
    profile = getattr(boto, "profile_name", None)
    said = {
        "region": getattr(session, "region", None) or getattr(boto, "region_name", None),
        "profile": None if profile == "default" else profile,
    }
    return {name: value for name, value in said.items() if value}


def read(uri: str, session: Any) -> bytes:
    """An object.

    Args:
        uri: ``s3://bucket/key``.
        session: As for ``account``.

    Raises:
        ProviderError: There is none, or no way to it.
    """
    return _way(session).read(*split_place(uri))


def copy(uri: str, folder: Path, session: Any) -> None:
    """Objects whose keys begin so, as Amazon Braket lays out a channel: below a prefix that is a folder, else below the prefix's folder.

    Args:
        uri: ``s3://bucket/prefix``.
        folder: Where to.
        session: As for ``account``.

    Raises:
        ProviderError: There are none, or no way to them.
    """
    bucket, prefix = split_place(uri)
    way = _way(session)
    keys = [key for found in way.objects(bucket, prefix) if not (key := str(found["Key"])).endswith("/")]
    if not keys:
        raise ProviderError(f"there is nothing under {uri}")
    is_folder = all(key.startswith(f"{prefix.rstrip('/')}/") for key in keys)
    above, slash, _ = prefix.rpartition("/")
    top = f"{prefix.rstrip('/')}/" if is_folder and prefix else above + slash
    for key in keys:
        path = folder / key[len(top) :]
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ProviderError(f"the key {key} would lead out of the channel's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(way.read(bucket, key))


def _way(session: Any) -> Session:
    from pl_hybridjobs.braket.session import Retries, shared

    return shared(**account(session), retries=Retries(attempts=4))
