"""The live price list of Amazon Braket: fetched when somebody asks, never by itself.

Source: the AWS Price List Bulk API (https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-an-offer.html): five rows that
tell of the file, one of column names, then a price a row. The list also has machines that are retired: an entry does not say that a
device can be used. Instance-hours of jobs are not read from it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from pl_hybridjobs.cost.prices import money, packaged, plain
from pl_hybridjobs.errors import ProviderError

URL = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonBraket/current/index.csv"
_TIMEOUT_S = 60.0
_METADATA_ROWS = 5
_SIMULATOR_MINIMUM_S = 3  # not in the list; Amazon's own cost tracker (amazon-braket-sdk) applies it to all on-demand simulators
_MINUTES = {"seconds": Decimal(60), "minutes": Decimal(1), "hours": 1 / Decimal(60)}
_TASKS = {"Quantum Task": "per_task_usd", "Quantum Task-Shot": "per_shot_usd"}
_RESERVATION_UNITS = ("hour", "hours", "hrs")


def fetch(url: str | None = None) -> str:
    """Download the list.

    Args:
        url: Where it is; None: ``$BRAKET_PRICE_OFFERS_URL``, which Amazon's SDK reads too, or Amazon's.

    Raises:
        ProviderError: It cannot be had.
    """
    import urllib.request

    place = url or os.environ.get("BRAKET_PRICE_OFFERS_URL", URL)
    address = urlsplit(place)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost", "::1")):
        raise ProviderError(
            f"The price list {place!r} is not taken: budgets go by it, so its address begins with https://, but for one on this machine."
        )
    try:
        with urllib.request.urlopen(place, timeout=_TIMEOUT_S) as reply:  # noqa: S310 - looked at above
            return str(reply.read().decode("utf-8"))
    except (OSError, ValueError) as error:
        raise ProviderError(f"The price list cannot be had from {place}: {error}. Check the network, or give another address.") from error


def parse(text: str) -> dict[str, dict[str, Any]]:
    """Read a list.

    Args:
        text: CSV, as the service publishes it.

    Returns:
        Entries of a price file: Amazon resource name -> fields of ``Price``, as JSON.

    Raises:
        ProviderError: There is no price in it that can be understood.
    """
    lines = text.splitlines(keepends=True)
    told = {row[0]: row[1] for row in csv.reader(lines[:_METADATA_ROWS]) if len(row) > 1}
    date = told.get("Publication Date", "")[:10]
    entries: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(io.StringIO("".join(lines[_METADATA_ROWS:]))):
        found = _priced(row)
        if found is None:
            continue
        device, field, usd = found
        entry = entries.setdefault(device, {"source": "AWS price list of Amazon Braket", "date": date})
        entry[field] = plain(max(usd, money(entry.get(field, 0))))  # of several regions the dearest
        if field == "per_minute_usd":
            entry["minimum_s"] = _SIMULATOR_MINIMUM_S
    whole = {device: entry for device, entry in entries.items() if {"per_task_usd", "per_minute_usd"} & set(entry)}
    if not whole:
        raise ProviderError("The price list has no price of a device in it that can be understood: it may have another form by now.")
    return whole


def _priced(row: Mapping[str, str | None]) -> tuple[str, str, Decimal] | None:
    """Device, field of a price, and US dollars of one row; None for rows of other things."""
    if row.get("Currency") != "USD" or not row.get("PricePerUnit"):
        return None
    usd, unit, family = money(row["PricePerUnit"]), str(row.get("Unit", "")).lower(), str(row.get("Product Family", ""))
    if family == "Simulator Task":
        if row.get("operation") != "CompleteTask" or not row.get("Version") or unit not in _MINUTES:
            return None
        return f"arn:aws:braket:::device/quantum-simulator/amazon/{row['Version']}".lower(), "per_minute_usd", money(usd * _MINUTES[unit])
    device = _qpu(row)
    if device is None:
        return None
    if family in _TASKS:
        return device, _TASKS[family], usd
    return (device, "reservation_hour_usd", usd) if unit in _RESERVATION_UNITS else None


def _qpu(row: Mapping[str, str | None]) -> str | None:
    """A machine's Amazon resource name. The list tells its region and its name, in a spelling of its own."""
    region, name = row.get("Region Code"), row.get("DeviceName")
    if not region or not name:
        return None
    known = _known(packaged())
    if (region, name.lower()) in known:
        return known[region, name.lower()]
    provider = (row.get("Provider") or "").lower()
    return f"arn:aws:braket:{region}::device/qpu/{provider}/{name}" if provider else None


def _known(devices: Iterable[str]) -> dict[tuple[str, str], str]:
    return {(device.split(":")[3], device.rpartition("/")[2].lower()): device for device in devices if device.startswith("arn:")}
