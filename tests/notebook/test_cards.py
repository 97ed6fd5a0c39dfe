"""Cards, charts and tables as HTML: the numbers are right, nothing in them is markup, and a browser shows them on white, black and narrow."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pl_hybridjobs import Job, Sweep, hybrid_job, log_metric
from pl_hybridjobs.jobs import display
from pl_hybridjobs.jobs.metrics import MetricWriter, read_metrics
from pl_hybridjobs.notebook.cards import Facts, Group, Row, Step, card, sweep
from pl_hybridjobs.notebook.chart import Curve, chart
from pl_hybridjobs.notebook.live import Notice
from tests.dashboard.conftest import ARGUMENTS, CHROMIUM_IS_MISSING

EVIL = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">'\"&</pre></svg></style>\x1b[31m\x00\u202e\udc80"


def evil_card() -> str:
    """Where each text comes from somebody else."""
    return card(
        Facts(
            EVIL,
            EVIL,
            EVIL,
            [EVIL],
            EVIL,
            Step(1, 2, EVIL),
            [Curve(EVIL, np.arange(3), np.arange(3.0))] * 6,
            4,
            [EVIL],
            EVIL,
            EVIL,
            Notice(EVIL),
            EVIL,
        )
    ) + sweep(
        Group(EVIL, {EVIL: 1}, [Row(EVIL, EVIL, {EVIL: EVIL}, Curve(EVIL, np.arange(3), np.arange(3.0)), EVIL)], 2, EVIL, Notice(EVIL))
    )


class _Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def points(svg: str) -> list[tuple[float, float]]:
    """Where the corners of the first curve are."""
    path = re.search(r'<path d="([^"]*)" fill="none"', svg)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path[1])] if path else []


def test_a_curve_is_drawn_where_its_values_are():
    svg = chart("cost", [Curve("cost", np.array([0, 10, 20]), np.array([1.0, 3.0, 2.0]))])

    (x0, y0), (x1, y1), (x2, y2) = points(svg)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.5, abs=0.01)
    assert "cost; 3 values, from 1 to 3, the last 2" in svg


def test_a_gap_is_marked_and_a_lonely_value_is_a_dot():
    svg = chart("cost", [Curve("cost", np.arange(5), np.array([1.0, np.nan, 3.0, np.inf, 2.0]))])

    assert svg.count("<circle") == 3
    assert re.search(r'<path d="(M[\d.]+ [\d.]+v8){2}"', svg)
    assert "no finite number" in svg


@settings(max_examples=60)
@given(st.lists(st.floats(), min_size=1, max_size=40), st.integers(0, 10**15))
def test_any_numbers_make_a_whole_picture(values, first):
    svg = chart("cost", [Curve("cost", first + np.arange(len(values)), np.array(values))])

    root = ElementTree.fromstring(svg)
    numbers = [float(n) for element in root.iter() for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
    assert all(-10 <= n <= 400 for n in numbers)
    labels = [element.text for element in root.iter("text")]
    assert len(labels) >= 3
    assert all(float(one.get("x", 0)) >= 6 * len(one.text or "") for one in root.iter("text") if one.get("text-anchor") == "end")
    assert not {"nan", "inf", "-inf"} & set(labels)


def test_a_million_points_are_a_small_picture():
    values = np.random.default_rng(1).normal(size=1_000_000)

    svg = chart("cost", [Curve("cost", np.arange(len(values)), values)])

    assert len(svg) < 40_000
    assert f"from {values.min():.6g} to {values.max():.6g}" in svg


def test_no_text_becomes_markup():
    found = _Elements(evil_card())

    assert not found.tags & {"script", "img"}
    assert not [name for name in found.attributes if name.startswith("on")]
    assert not re.search("[\x00\x1b\u202e\udc80]", evil_card())


def test_a_table_of_metrics_has_its_ends_and_its_extremes(tmp_path):
    writer = MetricWriter(tmp_path / "metrics.jsonl")
    for step in range(100):
        writer.log("cost", 100.0 - step, step=step)
        if step % 2:
            writer.log("accuracy<b>", step / 100, step=step)
    writer.close()

    html = read_metrics(tmp_path / "metrics.jsonl")._repr_html_()
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", html)]

    assert ["cost", "100", "1", "100", "1", "99"] in rows
    assert ["accuracy&lt;b&gt;", "50", "0.01", "0.99", "0.99", "99"] in rows
    assert ["0", "100", ""] in rows
    assert ["…", "…", "…"] in rows
    assert ["99", "1", "0.99"] in rows
    assert len(rows) == 1 + 2 + 1 + 5 + 1 + 5
    assert html.count("<svg") == 2


def fails(n):
    """Logs, and raises."""
    for step in range(n):
        log_metric("cost", 1 / (1 + step), step=step)
    print("the last line <i>")
    raise ValueError("boom <script>")


@pytest.fixture
def failed() -> Job:
    """A job that has failed, by way of the runner in this process."""
    job = hybrid_job(fails, runner="inline")(7)
    job.wait()
    return job


def test_a_failed_jobs_card_says_why_and_what_to_do(failed):
    html = failed._repr_html_()

    assert "ValueError: boom &lt;script&gt;" in html
    assert "the last line &lt;i&gt;" in html
    assert "job.resume() goes on from its newest checkpoint" in html
    assert "n=7" in html
    assert "7 values, from 0.142857 to 1" in html


def test_outside_a_kernel_ipython_shows_the_card_as_it_stands(failed):
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(failed)

    assert shown["text/plain"] == repr(failed)
    assert shown["text/html"] == failed._repr_html_()


def test_a_sweep_shows_what_differs(jobs_home):
    jobs = hybrid_job(lambda x, same: log_metric("cost", x, step=0), name="each", runner="inline").map(
        [{"x": x, "same": 1} for x in (0.5, 0.25)], max_parallel=1
    )
    jobs.wait(60)

    html = jobs._repr_html_()
    rows = [re.sub("<[^>]*>", "|", row) for row in re.findall("<tr>(.*?)</tr>", html)]

    assert "2 completed" in html
    assert "same" not in html
    assert [[cell for cell in re.split(r"\|+ ?", row) if cell][2:5] for row in rows[1:]] == [
        ["completed", "0.5", "0.5"],
        ["completed", "0.25", "0.25"],
    ]


def test_a_damaged_job_of_a_sweep_hides_no_other(jobs_home):
    jobs = hybrid_job(lambda x: log_metric("cost", x, step=0), name="each", runner="inline").map([{"x": x} for x in (0.5, 0.25)])
    (jobs[0].folder / "job.json").write_text("{")

    html = Sweep(jobs_home, jobs.id)._repr_html_()

    assert all(words in html for words in (jobs[0].id, "unknown", "each-2", "0.25"))


def test_a_sweep_offers_what_makes_sense_now(jobs_home):
    def offered() -> set[str]:
        return set(display._subject(Sweep(jobs_home, jobs.id)).look(Notice()).actions)

    jobs = hybrid_job(lambda x: 1 / x, name="each", runner="inline").map([{"x": 1}, {"x": 0}, {"x": 2}], on_failure="stop")
    assert offered() == {"Resume all"}

    (jobs[2].folder / "outcome.json").unlink()  # as if nobody had come to begin it
    (jobs[2].folder / "cancel.json").unlink()
    assert offered() == {"Cancel all", "Resume all"}

    for job in jobs[1:]:
        job.remove()
    assert offered() == set()


def test_a_browser_shows_cards_on_white_on_black_and_on_a_phone():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip(CHROMIUM_IS_MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        for ink, paper, width in (("rgb(0, 0, 0)", "#fff", 900), ("rgb(224, 224, 224)", "#111", 900), ("rgb(0, 0, 0)", "#fff", 340)):
            page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
            page.set_content(f"<title>whole</title><body style='color:{ink};background:{paper}'>{evil_card()}</body>")
            colours = page.eval_on_selector_all(
                ".hj-name, .hj pre, .hj td, .hj text", "all => all.map(e => getComputedStyle(e)[e.tagName == 'text' ? 'fill' : 'color'])"
            )
            hidden = page.eval_on_selector(".hj-log", "log => log.scrollTop + log.clientHeight < 0")

            assert set(colours) == {ink}
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.title() == "whole"
            assert page.locator(".hj-charts svg").first.bounding_box()["width"] > 200  # type: ignore[index]
            assert not hidden
        browser.close()
