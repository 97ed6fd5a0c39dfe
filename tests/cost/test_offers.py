"""The live price list, served over HTTP, read by us and by Amazon's own cost tracker."""

from __future__ import annotations

import csv
import io
import threading
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from pl_hybridjobs.cli.commands import cli
from pl_hybridjobs.cost import offers
from pl_hybridjobs.cost.prices import Price, price_of
from pl_hybridjobs.errors import ProviderError

GARNET = "arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet"
IBEX = "arn:aws:braket:eu-north-1::device/qpu/aqt/Ibex-Q1"
NEW = "arn:aws:braket:us-east-1::device/qpu/ionq/Tempo-9"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"

COLUMNS = ["PricePerUnit", "Currency", "Unit", "Product Family", "Region Code", "Provider", "DeviceName", "Version", "operation"]
ROWS = [
    ["0.31", "USD", "Quantum-Task", "Quantum Task", "eu-north-1", "IQM", "Garnet", "", ""],
    ["0.00155", "USD", "Quantum-Shot", "Quantum Task-Shot", "eu-north-1", "IQM", "Garnet", "", ""],
    ["3100", "USD", "Hours", "Quantum Reservation", "eu-north-1", "IQM", "Garnet", "", ""],
    ["0.33", "USD", "Quantum-Task", "Quantum Task", "eu-north-1", "AQT", "IBEX-Q1", "", ""],
    ["0.02", "USD", "Quantum-Shot", "Quantum Task-Shot", "eu-north-1", "AQT", "IBEX-Q1", "", ""],
    ["1.00", "USD", "Quantum-Task", "Quantum Task", "us-east-1", "IonQ", "Tempo-9", "", ""],
    ["0.5", "USD", "Quantum-Shot", "Quantum Task-Shot", "us-east-1", "IonQ", "Tempo-9", "", ""],
    ["0.075", "USD", "minutes", "Simulator Task", "us-east-1", "", "", "SV1", "CompleteTask"],
    ["0.0015", "USD", "seconds", "Simulator Task", "eu-west-2", "", "", "SV1", "CompleteTask"],
    ["9.99", "USD", "minutes", "Simulator Task", "us-east-1", "", "", "SV1", "FailTask"],
    ["9.99", "CNY", "Quantum-Task", "Quantum Task", "cn-north-1", "IQM", "Garnet", "", ""],
    ["0.461", "USD", "Hours", "ML Instance", "us-east-1", "", "", "", "RunInstance"],
]


def offer_file(rows=ROWS):
    text = io.StringIO()
    told = csv.writer(text, quoting=csv.QUOTE_ALL)
    for row in (["FormatVersion", "v1.0"], ["Disclaimer", "none"], ["Publication Date", "2026-10-01T10:00:00Z"], ["Version", "7"]):
        told.writerow(row)
    told.writerow(["OfferCode", "AmazonBraket"])
    told.writerows([COLUMNS, *rows])
    return text.getvalue()


@pytest.fixture
def address():
    """Of a server that has the list."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/index.csv"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(offer_file().encode() if found else b"")

        def log_message(self, *_):
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.csv"
        server.shutdown()
        thread.join()


def test_an_update_comes_before_the_packaged_list(address):
    done = CliRunner().invoke(cli, ["prices", "update", "--url", address])

    assert done.exit_code == 0, done.output
    assert "4 devices are now those of 2026-10-01" in done.output
    garnet, new, sv1 = price_of(GARNET), price_of(NEW), price_of(SV1)
    assert garnet is not None
    assert (garnet.usd(tasks=1, shots=1000), garnet.reservation_hour_usd, garnet.date) == (Decimal("1.86"), Decimal(3100), "2026-10-01")
    assert new is not None
    assert new.usd(tasks=1, shots=2) == 2
    assert sv1 is not None
    assert sv1.usd(seconds=60.0) == Decimal("0.09")  # of two regions the dearer
    assert "0.31 USD a task + 0.00155 USD a shot (as of 2026-10-01)" in CliRunner().invoke(cli, ["prices"]).output


def test_amazons_own_tracker_reads_the_same_prices(address, monkeypatch):
    from braket.tracking import pricing, tracker

    monkeypatch.setenv("BRAKET_PRICE_OFFERS_URL", address)
    monkeypatch.setattr(tracker, "price_search", pricing.Pricing().price_search)
    ours = {device: Price.from_json(device, entry) for device, entry in offers.parse(offers.fetch()).items()}

    for device in (GARNET, IBEX, NEW):
        task = f"arn:aws:braket:{device.split(':')[3]}:123456789012:quantum-task/x"
        details = {"status": "COMPLETED", "device": device, "shots": 123, "job_task": False}
        assert ours[device].usd(tasks=1, shots=123) == tracker._get_qpu_task_cost(task, details)
    billed = {"status": "COMPLETED", "device": SV1, "billed_duration": timedelta(minutes=10), "job_task": False}
    task = "arn:aws:braket:eu-west-2:123456789012:quantum-task/x"
    assert ours[SV1].usd(seconds=600.0) == tracker._get_simulator_task_cost(task, billed)


@pytest.mark.parametrize("text", ["", "<html>moved</html>", offer_file([])])
def test_a_list_without_prices_changes_nothing(text):
    with pytest.raises(ProviderError, match="no price of a device"):
        offers.parse(text)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://x", "begins with https://"),
        ("http://pricing.us-east-1.amazonaws.com/x", "begins with https://"),
        ("http://127.0.0.1:9/index.csv", "cannot be had"),
    ],
)
def test_a_list_that_cannot_be_had_is_told(url, said):
    done = CliRunner().invoke(cli, ["prices", "update", "--url", url])

    assert done.exit_code != 0
    assert said in (done.output + str(done.exception))
    garnet = price_of(GARNET)
    assert garnet is not None
    assert garnet.per_task_usd == Decimal("0.30")
