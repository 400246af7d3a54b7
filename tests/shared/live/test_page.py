"""The page in Debian's Chromium, against a hub of its own and runs that are being written."""

import base64
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from shared.live.discovery import run_id
from tests.fabricate.live_run import LiveRun
from tests.fabricate.sweep_folder import OUT_OF_MEMORY, SweepFolder

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MARKUP = "<img src=x onerror=document.title='pwned'>"


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("CHROMIUM MISSING: install the package chromium to test the page in a real browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open pages; afterwards none of them may have asked another host, or met an error of its own."""
    contexts, asked, errors = [], [], []

    def open_(url, **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert asked
    assert [url for url in asked if not url.split("://")[1].startswith("127.0.0.1:")] == []
    assert errors == []


@pytest.fixture
def hub(lasting_hub):
    """A hub without runs."""
    for path in lasting_hub.outputs.iterdir():
        shutil.rmtree(path)
    return lasting_hub


@pytest.fixture
def outputs(hub):
    return hub.outputs


@pytest.fixture
def run(outputs):
    """A run with four of its ten epochs behind it."""
    run = LiveRun(outputs / "spectra" / "cnn_xattn" / "20261121-120000-abcdef")
    run.start()
    run.train(4)
    return run


def shows(page, selector, **values):
    """Wait until an element's data attributes have these values."""
    for name, value in values.items():
        page.wait_for_function(
            "([selector, name, value]) => document.querySelector(selector)?.dataset[name] === value",
            arg=[selector, name, str(value)],
        )  # fmt: skip


def drawn_pixels(page, figure):
    """Pixels of a chart's canvas that are not empty."""
    return page.evaluate(
        """(id) => {
            const canvas = document.querySelector(`#${id} canvas`);
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let k = 3; k < data.length; k += 4) count += data[k] > 0;
            return count;
        }""",
        figure,
    )


def test_curves_samples_and_formula_appear_and_grow(hub, open_page, outputs, run):
    page = open_page(hub.url)
    shows(page, "#focus", count=80, missing=0)
    shows(page, "#chart-loss", series=4)
    for figure in ("chart-loss", "chart-metric", "chart-rate"):
        assert drawn_pixels(page, figure) > 500, figure
    before = int(page.get_attribute("#chart-loss", "data-points"))
    assert page.locator("#samples canvas").count() == 2
    assert page.locator("#samples .channel").count() == 8
    assert page.locator("#samples .channel .title b").all_inner_texts()[:4] == [
        "B",
        "G upper right",
        "G lower left",
        "R",
    ]
    assert "700 nm" in page.locator("#samples .ticks.below").first.inner_text()
    page.wait_for_selector(".formula[data-typeset] .katex")
    assert page.locator(".stages .start").inner_text() == "fit"
    assert "left" in page.locator(".bars .left").first.inner_text()
    run.train(1)
    shows(page, "#focus", count=100)
    page.wait_for_function("(before) => +document.querySelector('#chart-loss').dataset.points > before", arg=before)
    run.finish()
    page.wait_for_selector(".where .state.done")


def test_the_structure_is_drawn_bit_by_bit(hub, open_page, outputs, run):
    page = open_page(hub.url)
    page.wait_for_selector("#samples canvas")
    filled = page.evaluate(
        """() => {
            const canvas = document.querySelector("#samples canvas");
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const dark = [];
            for (let k = 0; k < data.length; k += 4) dark.push(data[k] < 128 ? 1 : 0);
            return dark;
        }"""
    )
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    bits = next(event["data"]["image"]["bits"] for event in events if event["kind"] == "sample")
    assert filled == np.unpackbits(np.frombuffer(base64.b64decode(bits), dtype=np.uint8)).tolist()


def test_a_reload_shows_the_same(hub, open_page, outputs, run):
    other = LiveRun(outputs / "spectra" / "sweeps" / "lr" / "point", seed=1)
    other.start()
    other.train(2)
    page = open_page(hub.url)
    for name in ("point", "abcdef"):
        page.locator(".run", has_text=name).locator("input").check()
    page.locator("#log").check()
    page.select_option("#metric", "val/r2")
    shows(page, "#chart-metric", series=2)
    before = [page.get_attribute(f"#{figure}", "data-points") for figure in ("chart-loss", "chart-metric")]
    page.reload()
    shows(page, "#chart-metric", series=2)
    shows(page, "#chart-loss", points=before[0])
    shows(page, "#chart-metric", points=before[1])
    assert page.locator("#log").is_checked()
    assert page.locator("#metric").input_value() == "val/r2"
    assert page.locator(".run input:checked").count() == 2


def test_two_viewers_see_the_same_and_a_whole_sweep(hub, open_page, outputs, run):
    for k in range(5):
        point = LiveRun(outputs / "spectra" / "sweeps" / "lr" / f"point-{k}", seed=k)
        point.start()
        point.train(2)
    first, second = open_page(hub.url), open_page(hub.url)
    for page in (first, second):
        page.locator(".run .name", has_text="abcdef").click()
    first.locator(".group", has_text="sweeps/lr").locator("header button").click()
    shows(first, "#chart-metric", series=6)
    run.train(1)
    shows(second, "#focus", count=100)
    second.goto(first.url)
    second.reload()
    shows(second, "#chart-metric", series=6)


def test_a_group_too_large_to_be_shown_is_cut_and_says_so(hub, open_page, outputs):
    for k in range(66):
        LiveRun(outputs / "p" / "sweeps" / "lr" / f"point-{k}")
    page = open_page(hub.url)
    page.wait_for_selector(".run >> nth=65")
    assert not page.locator("#cut").is_visible()
    page.locator(".group header button").click()
    page.wait_for_selector("#cut:not([hidden])")
    assert page.locator("#cut").inner_text() == "64 of 66 shown"
    page.click("#none")
    page.wait_for_selector("#cut", state="hidden")


@pytest.fixture
def sweep(outputs):
    """A sweep in every state; the runs of three of its points are there."""
    sweep = SweepFolder(outputs / "redheart" / "sweeps" / "lr")
    for number in range(3):
        LiveRun(sweep.run_of(number), seed=number).train(1, pause=0)
    with sweep.fill():
        yield sweep


def choose_sweep(page, sweep):
    """Click on a sweep; the hub may still list one of the test before."""
    sweep_id = run_id(sweep.folder.parts[-3:])
    page.locator(f"[data-sweep='{sweep_id}'] .name").click()
    page.wait_for_function("(id) => location.hash.includes(id)", arg=sweep_id)


def test_a_sweep_is_charted_and_its_points_told(hub, open_page, sweep):
    page = open_page(hub.url)
    choose_sweep(page, sweep)
    shows(page, "#chart-sweep", points=6, series=3, axis="log")  # two stages, and the best
    assert drawn_pixels(page, "chart-sweep") > 500
    shows(page, "#sweep", points=10)
    told = {
        name: page.locator(f"[data-count={name}] dd").inner_text() for name in ("done", "running", "failed", "total")
    }
    assert told == {"done": "6", "running": "1", "failed": "1", "total": "10"}
    assert "optimizer.lr = 7.071e\u22125" in page.locator("p.best").inner_text()
    rows = page.locator(".points tbody tr")
    assert page.locator(".points tr.best td").first.inner_text() == "2"
    assert OUT_OF_MEMORY in rows.nth(6).inner_text()
    assert "epoch 3, heard 0 s ago" in rows.nth(7).inner_text()
    sweep.done(9, 0.1)
    shows(page, "#chart-sweep", points=7)
    assert page.locator(".points tr.best td").first.inner_text() == "9"
    page.select_option("[data-key=order]", "score")
    page.wait_for_function("() => document.querySelector('.points tbody td').textContent === '9'")
    page.reload()
    shows(page, "#sweep", points=10)


def test_a_point_leads_to_its_run_and_back(hub, open_page, sweep):
    page = open_page(hub.url)
    choose_sweep(page, sweep)
    page.locator(".points a").nth(1).click()
    shows(page, "#focus", count=20)
    assert not page.locator("#sweep").is_visible()
    assert page.locator(".where h2").last.get_attribute("title") == sweep.run_of(1).name
    page.go_back()
    shows(page, "#sweep", points=10)
    page.locator("[data-run] .name").first.click()
    page.wait_for_selector("#sweep", state="hidden")


def test_a_grid_of_names_is_charted_by_name_and_shown_as_text(hub, open_page, outputs):
    space = {"kind": "grid", "values": {"model": [MARKUP, "b"], "seed": [1, 2]}}
    sweep = SweepFolder(outputs / MARKUP.replace("/", "") / "sweeps" / "g", space=space, direction="max")
    sweep.plan([{"model": model, "seed": seed} for model in (MARKUP, "b") for seed in (1, 2)])
    for number in range(3):
        sweep.done(number, 0.5)  # equal scores at equal places
    sweep.claim(3).failed(MARKUP, final=True)
    page = open_page(hub.url)
    choose_sweep(page, sweep)
    shows(page, "#chart-sweep", points=3, axis="names")
    page.select_option("[data-key=axis]", "seed")
    shows(page, "#chart-sweep", points=3, axis="linear")
    assert page.locator(".points tbody tr").nth(3).locator("td.said").inner_text() == MARKUP
    assert page.locator("img").count() == 0
    assert page.title() == "sweetspot live"


def test_a_hub_killed_in_mid_run_leaves_no_gap(start_hub, open_page, outputs, run):
    hub = start_hub(outputs)
    page = open_page(hub.url)
    shows(page, "#focus", count=80)
    hub.kill()
    page.wait_for_function("() => document.body.dataset.connected === 'no'")
    run.train(1)
    assert page.get_attribute("#focus", "data-count") == "80"  # what was seen stays
    hub.start()
    run.train(1)
    shows(page, "#focus", count=120, missing=0, seq=run.events.next_seq)
    assert page.get_attribute("body", "data-connected") == "yes"


def test_a_resumed_run_loses_what_is_superseded(hub, open_page, outputs, run):
    page = open_page(hub.url)
    shows(page, "#focus", count=80)
    run.resume(40)
    shows(page, "#focus", count=40)
    run.train_step()
    shows(page, "#focus", count=41)


def test_names_are_text_whatever_they_hold(hub, open_page, outputs):
    run = LiveRun(outputs / MARKUP / MARKUP.replace("/", "") / MARKUP)
    run.events.write(
        "start",
        0,
        0,
        max_epochs=2,
        batches_per_epoch=20,
        formula=r"\href{javascript:alert(1)}{x}",
        model={MARKUP: MARKUP},
    )
    run.events.write("warning", 0, 0, sentence=MARKUP)
    run.events.write("stage", 0, 0, stage=MARKUP, state=MARKUP)
    run.train(1, pause=0)
    run.events.write("epoch", 20, 1, **{MARKUP: 1.0, "val/loss": 1.0})
    page = open_page(hub.url)
    shows(page, "#focus", count=20)
    page.wait_for_selector("#facts .warnings li")
    assert page.locator(".where h2").inner_text() == MARKUP
    assert page.locator("#facts .warnings li").inner_text() == MARKUP
    assert MARKUP in page.locator("#metric").inner_text()
    page.wait_for_selector(".formula")
    assert page.locator("img").count() == 0
    assert page.locator(".formula a").count() == 0
    assert page.title() == "sweetspot live"


def test_a_hub_with_a_token_asks_for_it_and_hides_it(start_hub, open_page, outputs, run):
    hub = start_hub(outputs, environment={"SWEETSPOT_LIVE_TOKEN": "correct horse battery staple"})
    page = open_page(hub.url)
    page.wait_for_selector("dialog[open]")
    assert page.locator(".run").count() == 0
    page.fill("#token", "wrong token, wrong token")
    page.click("dialog button")
    page.wait_for_function("() => document.getElementById('login-note').textContent.includes('not the right one')")
    page.fill("#token", "correct horse battery staple")
    page.click("dialog button")
    shows(page, "#focus", count=80)
    page.reload()
    shows(page, "#focus", count=80)  # this tab remembers
    linked = open_page(f"{hub.url}/#token=correct%20horse%20battery%20staple")
    shows(linked, "#focus", count=80)
    assert "token" not in linked.url
    pasted = open_page(hub.url)
    pasted.wait_for_selector("dialog[open]")
    pasted.evaluate("location.hash = 'token=correct%20horse%20battery%20staple'")
    shows(pasted, "#focus", count=80)
    assert "token" not in pasted.url
    hub.stop()
    assert "correct" not in (hub.process.stdout.read() if not hub.process.stdout.closed else "")


def test_dark_and_light_by_system_and_by_button(hub, open_page, outputs, run):
    page = open_page(hub.url, color_scheme="dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.click("#theme")
    assert page.evaluate(theme) == "light"
    page.reload()
    assert page.evaluate(theme) == "light"


def test_a_narrow_screen_shows_everything_below_each_other(hub, open_page, outputs, run):
    page = open_page(hub.url)
    page.set_viewport_size({"width": 380, "height": 800})
    shows(page, "#focus", count=80)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert not page.locator("#list").is_visible()
    page.click("#menu")
    page.locator(".run .name").click()
    assert not page.locator("#list").is_visible()


def test_everything_can_be_reached_by_keyboard(hub, open_page, outputs, run):
    other = LiveRun(outputs / "spectra" / "cnn_gru" / "other")
    other.start()
    page = open_page(hub.url)
    page.wait_for_selector(".run >> nth=1")
    page.keyboard.press("/")
    page.keyboard.type("abcdef")
    page.wait_for_function("() => document.querySelectorAll('.run').length === 1")
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    shows(page, "#focus", count=80)


def test_the_vendored_files_are_those_of_the_readme():
    folder = Path(__file__).parents[3] / "shared" / "live" / "static" / "vendor"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(files) > 20
    listed = dict(reversed(line.split("  ")) for line in readme.split("```")[1].strip().splitlines())
    assert listed == {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
