"""S3 as the emulated service sees it: moto's own store, in this process."""

from __future__ import annotations

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID

from pl_hybridjobs.emulator.model import Refused

#: The account that everything belongs to.
ACCOUNT = DEFAULT_ACCOUNT_ID


def check_bucket(name: str) -> None:
    """Refuse a bucket that is not there."""
    if name not in get_backend("s3")[ACCOUNT]["aws"].buckets:
        raise Refused("ValidationException", f"The bucket {name} does not exist, or the caller may not write to it.")


def put(bucket: str, key: str, body: bytes) -> bool:
    """Write an object; False where the bucket was deleted meanwhile."""
    backend = get_backend("s3")[ACCOUNT]["aws"]
    if bucket not in backend.buckets:
        return False
    backend.put_object(bucket, key, body)
    return True
