"""The page itself, in a real Chromium, over real folders and real jobs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from pl_hybridjobs import hybrid_job
from pl_hybridjobs.jobs import outcome
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import SweepPlace
from tests.dashboard.folders import log_metrics, make, write_log

NASTY = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


def show(page: Page, address: str) -> None:
    page.evaluate("address => { location.hash = address; }", address)


def show_job(page: Page, folder: JobFolder) -> None:
    show(page, f"#/job/{folder.path.name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def names(page: Page) -> list[str]:
    return page.locator(".jobs tbody a.name").all_text_contents()


def test_the_token_leaves_the_address_and_a_reload_needs_none(page):
    assert page.url.endswith("/")
    page.reload()
    expect(page.locator("#connection")).to_have_text("live")


def test_an_empty_home_says_what_to_type_next(page):
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    expect(page.locator(".empty")).to_contain_text("hybridjobs run train.py:vqe --arg steps=100")


def test_the_list_shows_filters_sorts_and_selects(page, jobs_home):
    make(
        jobs_home,
        "vqe",
        age_s=10,
        tags={"team": "blue"},
        device="hybridjobs.qubit",
        params={"steps": 4},
        metrics={"energy": [3.0, -1.137, 2.0]},
    )
    make(jobs_home, "qaoa", age_s=7200, ended="failed", device="lightning.qubit")
    make(jobs_home, "classifier", age_s=200_000, ended="cancelled", tags={"team": "red"})
    expect(page.locator(".jobs tbody tr")).to_have_count(3)
    assert names(page) == ["vqe", "qaoa", "classifier"]
    vqe = page.locator(".jobs tbody tr").first
    expect(vqe).to_contain_text("energy 2")
    expect(vqe).to_contain_text("75 %")
    expect(vqe.locator("svg.spark polyline")).to_be_visible()
    expect(page.locator("time").nth(1)).to_have_text("2 h")

    page.keyboard.press("/")
    page.keyboard.type("team=b")
    expect(page.locator(".jobs tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".jobs tbody tr")).to_have_count(3)
    page.get_by_role("button", name="failed 1").click()
    expect(page.locator(".jobs tbody tr")).to_have_count(1)
    expect(page.get_by_role("button", name="failed 1")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="all 3").click()
    page.get_by_role("button", name="Name").click()
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    assert names(page) == ["classifier", "qaoa", "vqe"]

    page.locator("body").press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="qaoa", exact=True)).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_role("link", name="Compare 2")).to_be_visible()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("classifier")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Comparison")


def test_a_running_job_draws_its_curve_and_its_log_while_it_runs(page, jobs_home):
    folder = make(jobs_home, "vqe", ended=None, metrics={"energy": [1.0, 0.5]}, log=["began"], params={"steps": 10})
    show_job(page, folder)
    chart = page.locator(".chart", has=page.get_by_role("heading", name="energy"))
    expect(chart.locator(".readout")).to_contain_text("0.5")
    expect(chart.locator("canvas")).to_be_visible()
    expect(page.locator(".log .line").last).to_have_text("began")

    log_metrics(folder, {"energy": [-1.25]}, start=2)
    write_log(folder, [f"line {number}" for number in range(200)])

    expect(chart.locator(".readout")).to_contain_text("\N{MINUS SIGN}1.25")
    expect(chart.locator(".plot")).to_have_attribute(
        "aria-label",
        "energy over step. last \N{MINUS SIGN}1.25, lowest \N{MINUS SIGN}1.25, highest 1. Arrow keys read values, plus and minus zoom.",
    )
    expect(page.locator(".log .line").last).to_have_text("line 199")
    assert page.locator(".log").evaluate("box => box.scrollHeight - box.clientHeight - box.scrollTop") < 5
    expect(page.locator(".title .progress")).to_contain_text("30 %")

    page.locator(".log").evaluate("box => { box.scrollTop = 0; }")
    expect(page.get_by_label("Follow")).not_to_be_checked()
    write_log(folder, ["the end"])
    expect(page.locator(".log .line").last).to_have_text("the end")
    assert page.locator(".log").evaluate("box => box.scrollTop") == 0
    outcome.commit_value(folder, 1, 5)
    expect(page.locator(".title .status")).to_have_text("completed")
    expect(page.locator("#said")).to_have_text("vqe is completed")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)


def test_a_curve_is_zoomed_smoothed_and_read_by_keyboard(page, jobs_home):
    values = [10 ** (-i / 100) + 0.3 * (i % 2) for i in range(1000)]
    folder = make(jobs_home, metrics={"loss": values, "other": values})
    show_job(page, folder)
    plot = page.locator(".plot").first
    expect(plot.locator("canvas")).to_be_visible()

    with page.expect_response(lambda answer: "smooth=0.9" in answer.url) as smoothed:
        page.get_by_label("Smooth").fill("0.9")
    assert "smooth" in smoothed.value.json()[0]
    page.get_by_label("Log scale").check()
    expect(page.locator(".chart figcaption").first).to_have_text("")
    with page.expect_response(lambda answer: "from=" in answer.url) as zoomed:
        box = plot.locator(".u-over").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=4)
        page.mouse.up()
    part = zoomed.value.json()[0]["raw"]["x"]
    assert (part[0], part[-1]) == (pytest.approx(250, abs=12), pytest.approx(500, abs=12))
    with page.expect_response(lambda answer: "/api/series" in answer.url and "from=" not in answer.url):
        page.get_by_role("button", name="See all").click()

    page.get_by_role("button", name="other").click()
    expect(page.locator(".chart")).to_have_count(1)
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#said")).to_contain_text("step 0")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#said")).to_contain_text("step 10")
    with page.expect_response(lambda answer: "from=" in answer.url):
        page.keyboard.press("+")
    page.locator("#axis").select_option("time")
    expect(plot).to_have_attribute("aria-label", re.compile("^loss over time"))


@pytest.mark.parametrize("is_log", [False, True])
def test_axes_of_any_size_have_numbers(page, jobs_home, is_log):
    folder = make(jobs_home, metrics={"huge": [2.0e59, 4.0e59], "tiny": [1e-20, 3e-20], "usual": [1.0, 3.0]})
    page.evaluate("""() => {
        const [write, written] = [CanvasRenderingContext2D.prototype.fillText, window.written = new Set()];
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) { written.add(text); return write.call(this, text, ...rest); };
    }""")
    show_job(page, folder)
    expect(page.locator(".plot canvas")).to_have_count(3)
    if is_log:
        page.evaluate("() => window.written.clear()")
        page.get_by_label("Log scale").check()

    for tick in ("2e59", "2e\u221220", "2"):
        page.wait_for_function("tick => window.written.has(tick)", arg=tick)
    page.locator(".plot").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#said")).to_contain_text("2e59")


@hybrid_job
def descend(steps: int, folder: str):
    import time
    from pathlib import Path

    from pl_hybridjobs import current_job, load_checkpoint, log_metric, save_checkpoint

    start = (load_checkpoint() or {"step": 0})["step"]
    for step in range(start, steps):
        log_metric("left", steps - step, step)
        print("step", step)
        save_checkpoint({"step": step + 1}, step)
        while step == 5 and not Path(folder, "go").exists() and not current_job().stop_requested:
            time.sleep(0.02)
    Path("answer.txt").write_text("42")
    return "done"


def test_a_real_job_is_cancelled_and_resumed_by_its_buttons(page, tmp_path):
    job = descend(12, str(tmp_path))
    page.get_by_role("link", name="descend", exact=True).click()
    expect(page.locator(".log .line").last).to_have_text("step 5")
    expect(page.locator(".readout")).to_contain_text("step 5")

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    assert job.status == "running"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".title .status")).to_have_text("cancelled")
    assert job.status == "cancelled"

    (tmp_path / "go").touch()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("dialog")).to_contain_text("A new job makes the same call")
    page.get_by_role("dialog").get_by_role("button", name="Resume the job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("descend-2")
    expect(page.locator(".title .status")).to_have_text("completed")
    expect(page.locator(".sub")).to_contain_text("goes on with descend")
    expect(page.locator(".side")).to_contain_text("done")
    with page.expect_download() as saved:
        page.get_by_role("link", name="answer.txt").click()
    assert Path(saved.value.path()).read_text() == "42"
    expect(page.locator(".log .line").last).to_have_text("step 11")


def test_a_refusal_is_shown_in_words(page, jobs_home, complaints):
    folder = make(jobs_home, "vqe", ended="failed", log=["boom"])
    show_job(page, folder)
    expect(page.locator(".side")).to_contain_text("ValueError")
    expect(page.locator(".side")).to_contain_text("no good")

    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume the job").click()

    expect(page.get_by_role("alert")).to_contain_text("which packs nothing")
    assert "409" in complaints.pop()


def test_a_sweep_is_compared_by_curves_coordinates_and_table(page, jobs_home):
    old = make(jobs_home, "try", ended="failed", sweep=SweepPlace("s1", 3))  # try-3 stands in its place
    for index in range(4):
        values = [math.exp(-0.1 * index * step) for step in range(30)]
        make(
            jobs_home,
            f"try-{index}",
            age_s=10 - index,
            sweep=SweepPlace("s1", index),
            metrics={"cost": values},
            params={"stepsize": 0.1 * index, "kind": ["adam", "sgd"][index % 2], "same": 1},
            continues=old.path.name if index == 3 else None,
        )
    page.get_by_role("link", name="sweep").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sweep")
    expect(page.locator(".sub")).to_have_text("4 jobs: 4 completed")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(page.locator(".chart canvas")).to_be_visible()
    expect(page.locator(".parallel polyline.in")).to_have_count(4)
    assert page.locator("thead th").all_text_contents() == ["Curve", "Name", "Status", "stepsize", "kind", "cost"]

    page.get_by_role("columnheader", name="cost").get_by_role("button").click()
    expect(rows.first).to_contain_text("try-3")
    page.get_by_label("Metrics show the").select_option("max")
    expect(rows.first).to_contain_text("1")
    with page.expect_response(lambda answer: "/api/series" in answer.url):
        page.get_by_role("checkbox", name="Draw the curve of try-0").uncheck()

    page.locator(".parallel").scroll_into_view_if_needed()
    grip = page.locator(".axis .grip").first.bounding_box()  # stepsize: the upper half
    assert grip is not None
    middle = grip["x"] + grip["width"] / 2
    page.mouse.move(middle, grip["y"] + 2)
    page.mouse.down()
    page.mouse.move(middle, grip["y"] + grip["height"] / 2, steps=3)
    page.mouse.up()
    expect(page.locator(".parallel polyline.in")).to_have_count(2)
    expect(rows).to_have_count(2)
    page.keyboard.press("Escape")
    expect(rows).to_have_count(4)


def test_text_is_never_html(page, jobs_home, complaints):
    folder = make(
        jobs_home,
        "vqe",
        ended=None,
        device=NASTY,
        tags={NASTY: NASTY},
        params={NASTY: NASTY, "steps": 2},
        metrics={NASTY: [1.0, 2.0]},
        log=[NASTY],
        files={f"{NASTY.replace('/', '')}.html": b"x"},
        sweep=SweepPlace("s1", 0),
        provenance={"x": NASTY},
    )
    make(jobs_home, "other", params={NASTY: "y"}, metrics={NASTY: [1.0]}, sweep=SweepPlace("s1", 1))
    expect(page.locator(".jobs")).to_contain_text("<img src=x")
    expect(page.locator(".jobs .metric").first).to_contain_text("<img src=x")
    show_job(page, folder)
    for place in (".chart h3", ".log", ".side", ".sub"):
        expect(page.locator(place)).to_contain_text("<img src=x")
    outcome.commit_failure(folder, 1, "error", {"type": NASTY, "message": NASTY, "traceback": NASTY})
    expect(page.locator(".side pre").first).to_contain_text("<img src=x")
    show(page, "#/sweep/s1")
    expect(page.locator(".parallel")).to_contain_text("<img src=x")
    expect(page.locator("table")).to_contain_text("<img src=x")

    assert page.locator("img[src=x]").count() == 0
    assert "owned" not in page.title()
    blocked = page.evaluate("() => { try { document.body.innerHTML = '<p>'; return false; } catch (error) { return error.name; } }")
    assert blocked == "TypeError", "Trusted Types let no text become HTML"
    assert "TrustedHTML" in complaints.pop()


def test_dark_mode_follows_the_system_and_the_switch(page, jobs_home):
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert dark != light
    page.get_by_role("button", name="Switch to light mode").click()
    assert background() == light
    page.reload()
    assert background() == light


CONTRAST = """() => {
    const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = (colour) => { const [r, g, b] = rgba(colour).map((value) => channel(value / 255)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (element) => { for (let e = element; e; e = e.parentElement) { const found = getComputedStyle(e).backgroundColor; if (rgba(found)[3] === 255) return found; } return "white"; };
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || element.disabled || element.closest("svg")) continue;
        const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
        if ((one + 0.05) / (other + 0.05) < 4.5) poor.push(`${element.tagName} ${element.className}: ${element.textContent.slice(0, 30)}`);
    }
    return poor;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, a[href], input, select, [tabindex='0'], [role=img]")]
    .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(page, jobs_home, scheme):
    page.emulate_media(color_scheme=scheme)
    folder = make(
        jobs_home,
        "vqe",
        ended="failed",
        metrics={"energy": [1.0, 2.0], "norm": [2.0]},
        tags={"a": "b"},
        params={"steps": 5},
        sweep=SweepPlace("s1", 0),
        log=["x"],
        device="d",
    )
    for index, ended in enumerate(("completed", "cancelled", None)):
        make(jobs_home, f"job-{index}", ended=ended, sweep=SweepPlace("s1", index + 1), params={"steps": index}, metrics={"energy": [1.0]})

    for address in ("#/", f"#/job/{folder.path.name}", "#/sweep/s1"):
        show(page, address)
        expect(page.locator("canvas:visible, svg.spark").first).to_be_visible()
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(NAMELESS) == []
        assert page.locator("main h1").count() == 1
        assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_over_on_a_phone_or_on_a_desk(page, jobs_home, width):
    folder = make(
        jobs_home,
        "a-rather-long-name-of-a-job",
        ended=None,
        metrics={"energy": [1.0, 2.0], "m" * 150: [1.0]},
        tags={"study": "x" * 60},
        params={"steps": 5, "text": "y" * 90},
        sweep=SweepPlace("s1", 0),
    )
    outcome.commit_failure(folder, 1, "error", {"type": "builtins:ValueError", "message": "z" * 300, "traceback": "Traceback ..."})
    make(jobs_home, "b", sweep=SweepPlace("s1", 1), metrics={"energy": [1.0]})
    page.set_viewport_size({"width": width, "height": 844})

    for address in ("#/", f"#/job/{folder.path.name}", "#/sweep/s1"):
        show(page, address)
        expect(page.locator("canvas:visible, svg.spark").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        inside = "all => all.every(one => one.getBoundingClientRect().right <= one.closest('.card').getBoundingClientRect().right)"
        assert page.locator(".card .chip, .card p").evaluate_all(inside), address


def test_the_page_says_when_the_dashboard_has_gone_and_finds_it_again(chromium, jobs_home):
    from pl_hybridjobs.dashboard import dashboard

    context = chromium.new_context()
    made = context.new_page()
    with dashboard(jobs_home) as running:
        made.goto(running.url)
        expect(made.locator("#connection")).to_have_text("live")
    expect(made.locator("#connection")).to_have_text("reconnecting")
    context.close()
