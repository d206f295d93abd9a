"""The report as people see it: in a real browser."""

import re
from pathlib import Path

import pytest
from report_runs import large_run, small_run, summary

from chaos.experiment import Run
from chaos.report import write_report
from chaos.scenario import load_scenario

ROOT = Path(__file__).parents[2]
CSS = (ROOT / "chaos" / "report" / "report.css").read_text()
TITLES = ["Nodes", "Latency", "Throughput", "Who believed what of whom", "Queue depth", "Locks"]
PAGE_MS = 20_000  # ms, for anything on a page to come about


@pytest.fixture
def opened(browser):
    """Opens reports; whatever a page complains of or asks the network for fails the test."""
    troubles, contexts = [], []

    def open_report(path, **kind):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | kind)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PAGE_MS)
        page.on("console", lambda said: troubles.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        page.on("request", lambda asked: asked.url == path.as_uri() or troubles.append(f"asked for {asked.url[:80]}"))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert [trouble for trouble in troubles if not trouble.startswith("asked for data:")] == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_report(small_run(tmp_path_factory.mktemp("small") / "run"))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A real run: the demo's first seven seconds, simulated."""
    run = Run(
        load_scenario(ROOT / "configs" / "demo.toml"),
        world="sim",
        seed=1,
        duration=7,
        out=tmp_path_factory.mktemp("runs"),
    )
    run.execute()
    return write_report(run.directory)


def shown(page):
    """From when until when, as the page says."""
    start, end = re.match(r"([\d.]+) to ([\d.]+) s", page.locator("#range").inner_text()).groups()
    return float(start), float(end)


def wait_until_shown(page, condition):
    """Until the page shows a time for which the JavaScript condition on `from` and `to` holds."""
    numbers = "document.getElementById('range').textContent.match(/[\\d.]+/g).map(Number)"
    page.wait_for_function(f"() => {{ const [from, to] = {numbers}; return {condition}; }}")


def plot(page, title):
    return page.locator("figure", has=page.get_by_role("heading", name=title, exact=True)).locator(".u-over")


def drag(page, area, start, end):
    """Along an area, between two shares of its width."""
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


def tip_about_an_operation(page, time):
    """Moves up over the latency plot at that time until the tip is about an operation; what it says."""
    area = plot(page, "Latency")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    start, end = shown(page)
    for row in range(1, 40):
        x = box["x"] + box["width"] * (time - start) / (end - start)
        page.mouse.move(x, box["y"] + box["height"] * (1 - row / 40))
        if page.locator("#tip .mono").count():
            return page.locator("#tip").inner_text()
    return None


def test_a_report_shows_all_its_parts(opened, small):
    page = opened(small)
    assert page.title() == "invalid: small <b>, seed 7"
    assert page.get_by_role("heading", level=1).inner_text().endswith("Invalid")
    assert page.locator("#plots figure h3").all_inner_texts() == TITLES
    assert page.locator("#plots .plot[role=img][aria-label]").count() == len(TITLES)
    assert page.locator("#plots figcaption").count() == len(TITLES)
    assert "n1 led term 1 from 0.00 s to 2.00 s, was down 2.00 s to 2.90 s" in page.locator("#plots").inner_text()
    assert page.locator("#checks tbody tr").count() == 2
    assert page.locator("#faults").inner_text().count("no leader is known") == 1
    assert page.get_by_text("testbed replay runs/small").is_visible()
    assert page.locator("#missing").is_hidden()
    assert page.locator("#broke svg[role=img]").count() == 2
    assert page.locator("#broke tr.broken").inner_text().startswith("read -> 5")
    assert page.locator("#broke pre").inner_text() == 'name = "smaller"\n'


def test_every_plot_has_drawn_what_it_is_about(opened, small):
    page = opened(small)
    found = page.evaluate(
        "() => [...document.querySelectorAll('#plots canvas')].map(canvas => { const data = canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data; const seen = new Set();"
        " for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) seen.add(data.slice(at, at + 3).join());"
        " return [...seen]; })"
    )
    names = [
        ["leader", "down", "cut", "candidate"],
        ["info"],
        ["ok"],
        ["ok", "suspect", "failed"],
        ["ok"],
        ["held", "cut"],
    ]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", CSS.partition("@media")[0]))
    for title, seen, wanted in zip(TITLES, found, names, strict=True):
        for name in wanted:
            rgb = ",".join(str(int(colours[name][at : at + 2], 16)) for at in (1, 3, 5))
            assert rgb in seen, (title, name)


def test_dragging_zooms_all_plots_and_a_double_click_shows_everything_again(opened, small):
    page = opened(small)
    assert shown(page) == (0.0, 6.0)
    drag(page, plot(page, "Throughput"), 0.25, 0.5)
    wait_until_shown(page, "from > 1.4 && to < 3.1")
    before = plot(page, "Latency").bounding_box()
    page.keyboard.down("Shift")
    drag(page, plot(page, "Latency"), 0.5, 0.25)
    page.keyboard.up("Shift")
    wait_until_shown(page, "from > 1.7 && to > 3.2 && to < 3.6")
    assert plot(page, "Latency").bounding_box()["width"] == before["width"]
    plot(page, "Nodes").dblclick()
    wait_until_shown(page, "from === 0 && to === 6")


def test_the_wheel_scrolls_the_page_unless_control_is_held(opened, small):
    page = opened(small)
    area = plot(page, "Latency")
    area.scroll_into_view_if_needed()
    area.hover()
    page.mouse.wheel(0, -100)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    wait_until_shown(page, "to - from < 5")
    assert shown(page)[1] - shown(page)[0] > 3


def test_the_buttons_work_with_the_keyboard(opened, small):
    page = opened(small)
    for name, condition in (
        ("Zoom in", "from === 1.5 && to === 4.5"),
        ("Earlier", "from === 0 && to === 3"),
        ("Later", "from === 1.5 && to === 4.5"),
        ("Zoom out", "from === 0 && to === 6"),
        ("First error", "from > 4 && from < 5.1 && to > 5.2 && to < 6"),
        ("Everything", "from === 0 && to === 6"),
    ):
        page.get_by_role("button", name=name, exact=True).press("Enter")
        wait_until_shown(page, condition)


def test_jumping_to_the_first_error_shows_the_plots_around_it(opened, small, artefacts):
    page = opened(small)
    page.get_by_role("button", name="Jump to the first error").click()
    wait_until_shown(page, "from > 4 && from < 5.1 && to > 5.2 && to < 6")
    assert page.locator("#timeline-title").is_visible()
    assert "read -> 5" in tip_about_an_operation(page, 5.15)
    page.screenshot(path=artefacts / "report-error.png")


def test_hovering_tells_of_the_operation_and_how_to_follow_it(opened, small):
    page = opened(small)
    said = tip_about_an_operation(page, 1.0)
    assert said.startswith("write 10 ok\nok after 14.0 ms, invoked at 1.0000 s\nkv, process 1, key k0"), said
    assert re.search(r"event (\d+)\ntestbed explain \S+ \1$", said), said
    page.mouse.move(2, 2)
    page.wait_for_selector("#tip", state="hidden")


def test_hovering_a_lane_tells_of_the_node_and_of_the_fault(opened, small):
    page = opened(small)
    area = plot(page, "Nodes")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 2.5 / 6, box["y"] + 55)
    page.wait_for_selector("#tip:visible")
    said = page.locator("#tip").inner_text()
    assert said.startswith("n1 at 2.")
    assert "down, 2.00 s to 2.90 s (killed)" in said
    assert "fault 1: kill of n1, 2.00 s to 3.00 s" in said


def test_the_theme_follows_the_system_and_can_be_chosen(opened, small):
    page = opened(small, color_scheme="dark")
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 26)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(background) == "rgb(20, 23, 26)"


@pytest.mark.parametrize("kind", [{"viewport": {"width": 400, "height": 800}}, {"media": "print"}])
def test_nothing_sticks_out_of_a_narrow_or_a_printed_page(opened, small, kind, artefacts):
    page = opened(small, **{name: value for name, value in kind.items() if name == "viewport"})
    if "media" in kind:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 720, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#toolbar").is_visible() == page.locator("nav").is_visible() == ("viewport" in kind)
    page.screenshot(path=artefacts / f"report-{'narrow' if 'viewport' in kind else 'printed'}.png", full_page=True)


def test_a_damaged_run_says_at_the_top_what_is_missing(opened, tmp_path, artefacts):
    run = small_run(tmp_path / "run")
    for name in ("summary.json", "nodes/n2/log-0001.jsonl", "history-2.jsonl"):
        (run / name).write_text("{")
    page = opened(write_report(run))
    assert page.locator("#missing").is_visible()
    assert "summary.json cannot be read" in page.locator("#missing").inner_text()
    assert "null" not in page.locator("main").inner_text()
    assert "history-2.jsonl, line 1" in page.locator("#missing").inner_text()
    assert page.locator("#plots figure h3").all_inner_texts() == [title for title in TITLES if title != "Queue depth"]
    page.screenshot(path=artefacts / "report-damaged.png")


def test_a_directory_with_a_schedule_alone_has_a_page(opened, tmp_path):
    (tmp_path / "schedule.json").write_text('{"seed": 3, "nodes": []}')
    page = opened(write_report(tmp_path))
    assert page.get_by_role("heading", level=1).inner_text().endswith("No verdict")
    assert "neither logs nor operations" in page.locator("#plots").inner_text()


def test_a_report_of_100_000_operations_can_be_zoomed_moved_and_asked(opened, tmp_path):
    report = write_report(large_run(tmp_path / "run", 100_000, 100.0))
    assert report.stat().st_size < 5_000_000
    page = opened(report)
    assert re.search(
        r"Left out where they are dense: [\d,]+ ok, 0 failed, 0 unknown", page.locator("#plots").inner_text()
    )
    for width in (50, 25, 12.5):
        page.get_by_role("button", name="Zoom in").click()
        wait_until_shown(page, f"Math.abs(to - from - {width}) < 0.02")
    drag(page, plot(page, "Latency"), 0.2, 0.4)
    wait_until_shown(page, "to - from < 2.6")
    assert "testbed explain" in tip_about_an_operation(page, sum(shown(page)) / 2)
    plot(page, "Throughput").dblclick()
    wait_until_shown(page, "from === 0 && to === 100")
    assert "testbed explain" in tip_about_an_operation(page, 50.0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_real_run_is_shown_whole(opened, simulated, artefacts, scheme):
    page = opened(simulated, color_scheme=scheme)
    assert page.locator("#missing").is_hidden(), page.locator("#missing").inner_text()
    assert page.locator("#plots figure h3").all_inner_texts() == TITLES
    assert "led term" in page.locator("#plots").inner_text()
    page.screenshot(path=artefacts / f"report-{scheme}.png")
    page.evaluate("document.getElementById('timeline').scrollIntoView()")
    page.screenshot(path=artefacts / f"report-timeline-{scheme}.png")


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("block", [0, 1, 2], ids=["light", "dark of the system", "dark by choice"])
def test_words_and_marks_have_the_contrast_that_wcag_aa_asks_for(block):
    colours = dict(
        re.findall(r"--([\w-]+): (#[0-9a-f]{6});", re.findall(r":root[^{]*\{([^}]*--paper[^}]*)\}", CSS)[block])
    )
    for below in ("paper", "raised"):
        for name, least in [(word, 4.5) for word in ("ink", "quiet", "accent", "failed")] + [
            (mark, 3.0) for mark in ("ok", "fail", "info", "leader", "down", "paused", "cut", "suspect", "held", "mark")
        ]:
            high, low = sorted((luminance(colours[name]), luminance(colours[below])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (name, below)


def test_a_verdict_has_no_box_where_nothing_broke(opened, tmp_path):
    page = opened(write_report(small_run(tmp_path / "run", broken=False)))
    assert page.locator("#broke").is_hidden()
    assert page.get_by_role("button", name="First error").is_hidden()
    assert summary()["replay"] in page.locator("#verdict").inner_text()
