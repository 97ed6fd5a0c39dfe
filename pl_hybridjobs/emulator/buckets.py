"""S3 as the emulated service sees it: moto's own store, in this process."""

from __future__ import annotations

from dataclasses import dataclass

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from pl_hybridjobs.emulator.model import Refused

#: The account that everything belongs to.
ACCOUNT = DEFAULT_ACCOUNT_ID


@dataclass(frozen=True)
class Found:
    """An object as a plain read gives it."""

    headers: dict[str, str]
    body: bytes


def get(path: str) -> Found | None:
    """What lies at ``/bucket/key``; None where moto has more to say of it than its content, or it is not there.

    Results are read so, in a tenth of the time that moto takes from the request to its answer.
    """
    bucket, _, key = path[1:].partition("/")
    backend = get_backend("s3")[ACCOUNT]["aws"]
    if not key or bucket not in backend.buckets or not key.isascii():
        return None
    one = backend.get_object(bucket, key)
    is_plain = one is not None and one.storage_class == "STANDARD" and one.checksum_algorithm is None and one.version_id == "null"
    return Found({**one.response_dict, **one.metadata, "Accept-Ranges": "bytes"}, one.value) if is_plain else None


def check_bucket(name: str) -> None:
    """Refuse a bucket that is not there."""
    if name not in get_backend("s3")[ACCOUNT]["aws"].buckets:
        raise Refused("ValidationException", f"The bucket {name} does not exist, or the caller may not write to it.")


def read(bucket: str, key: str) -> bytes | None:
    """Read an object; None: there is none."""
    backend = get_backend("s3")[ACCOUNT]["aws"]
    found = backend.get_object(bucket, key) if bucket in backend.buckets else None
    return None if found is None else bytes(found.value)


def keys(bucket: str, prefix: str) -> list[str]:
    """Of objects that begin so, sorted."""
    backend = get_backend("s3")[ACCOUNT]["aws"]
    found = list(backend.buckets[bucket].keys) if bucket in backend.buckets else []
    return sorted(key for key in found if key.startswith(prefix) and backend.get_object(bucket, key) is not None)


def place(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``.

    Raises:
        Refused: It is no such URI.
    """
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise Refused("ValidationException", f"{uri!r} is not like s3://bucket/key.")
    return bucket, key


def put(bucket: str, key: str, body: bytes) -> bool:
    """Write an object; False where the bucket was deleted meanwhile."""
    backend = get_backend("s3")[ACCOUNT]["aws"]
    if bucket not in backend.buckets:
        return False
    backend.put_object(bucket, key, body)
    return True
