"""IAM roles of jobs, in moto: the default one, and whether a request's role can be used."""

from __future__ import annotations

import contextlib
import json
import threading
from urllib.parse import unquote

from moto.backends import get_backend
from moto.iam.exceptions import EntityAlreadyExists

from pl_hybridjobs.emulator.buckets import ACCOUNT
from pl_hybridjobs.emulator.model import Refused

_LOCK = threading.Lock()
_NAME, _PATH, _WHO = "AmazonBraketJobsExecutionRole", "/service-role/", "braket.amazonaws.com"
#: The role that is there from the beginning.
DEFAULT_ROLE = f"arn:aws:iam::{ACCOUNT}:role{_PATH}{_NAME}"


def make_default() -> None:
    """Have the role that Braket's console makes and its SDK looks for."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": _WHO}, "Action": "sts:AssumeRole"}],
    }
    with _LOCK, contextlib.suppress(EntityAlreadyExists):
        get_backend("iam")[ACCOUNT]["aws"].create_role(
            role_name=_NAME,
            assume_role_policy_document=json.dumps(trust),
            path=_PATH,
            permissions_boundary=None,
            description="Made by the emulator",
            tags=[],
            max_session_duration="3600",
        )


def check(arn: str) -> None:
    """Refuse a role that is not there or that Braket may not assume."""
    make_default()
    role = next((role for role in list(get_backend("iam")[ACCOUNT]["aws"].get_roles()) if role.arn == arn), None)
    if role is None:
        raise Refused(
            "ValidationException", f"The role {arn} does not exist. The emulator has {DEFAULT_ROLE}; iam.create_role makes others."
        )
    if _WHO not in unquote(role.assume_role_policy_document):
        raise Refused("ValidationException", f"Braket is unable to assume the role {arn}: its trust policy does not name {_WHO}.")
