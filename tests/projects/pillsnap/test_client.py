"""The page in Debian's Chromium on a phone-sized screen, against a server of its own."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from projects.pillsnap.gateway import decode_photo
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.server.service import CLIENT_PX
from tests.fabricate.pill_model import colours, write_tiny_model
from tests.fabricate.pill_server import CAREFUL, PillServer, strange_colour

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = PillServer(write_tiny_model(tmp_path_factory.mktemp("model"), num_classes=6, none_of_these=CAREFUL)).wait()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("CHROMIUM MISSING: install the package chromium to test the page in a real browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, server):
    """Open the page; afterwards it may not have asked another host, or met an error of its own."""
    contexts, asked, errors = [], [], []

    def open_(**options):
        context = chromium.new_context(viewport=PHONE, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(server.url)
        page.wait_for_selector("#model:not(:empty)")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert asked
    assert [url for url in asked if not url.startswith((server.url, f"blob:{server.url}"))] == []
    assert errors == []


def upload(page, content, name="photo.jpg", mime="image/jpeg"):
    page.set_input_files("#file", {"name": name, "mimeType": mime, "buffer": content})


def photo(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def colour_photo(colour, width=1200, height=900):
    return photo(np.full((height, width, 3), np.round(255 * np.asarray(colour)), np.uint8))


def sent_jpeg(page, content):
    """The bytes of the JPEG that the page sends for a photo."""
    page.evaluate("""() => {
        const real = window.fetch;
        window.fetch = async (path, options) => {
            const file = options.body.get("file");
            window.sent = [file.type, ...new Uint8Array(await file.arrayBuffer())];
            return real(path, options);
        };
    }""")
    upload(page, content)
    page.wait_for_selector("#result:not([hidden])")
    kind, *values = page.evaluate("window.sent")
    assert kind == "image/jpeg"
    return bytes(values)


def test_a_file_is_answered_with_five_candidates_and_their_bars(open_page):
    page = open_page()
    upload(page, colour_photo(colours(6)[3]))
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("li.candidate").count() == 5
    first = page.locator("li.candidate").first
    assert "Tablet 3" in first.inner_text()
    assert "K-000003" in first.inner_text()
    bars = page.locator("li.candidate progress").evaluate_all("bars => bars.map((bar) => bar.value)")
    assert bars == sorted(bars, reverse=True)
    assert f"{100 * bars[0]:.0f} %" in first.inner_text()
    assert first.locator("progress").get_attribute("aria-label") == "Probability of Tablet 3"
    assert page.get_attribute("#answer", "aria-busy") == "false"
    assert page.evaluate("document.activeElement.id") == "answer"


def test_the_sent_photo_is_the_upright_centre_square_as_the_contract_says(open_page, server):
    contract = server.ask("GET", "/preprocess")[2]["client"]
    image = Image.new("RGB", (1500, 1000), (40, 90, 140))
    draw = ImageDraw.Draw(image)
    draw.ellipse((450, 300, 850, 700), fill=(230, 220, 200))
    draw.rectangle((950, 200, 1150, 500), fill=(180, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 8  # turned: the page must undo it
    content = photo(np.asarray(image), exif=exif)
    jpeg = sent_jpeg(open_page(), content)
    sent = decode_photo(jpeg)
    assert sent.shape == (contract["size_px"], contract["size_px"], 3)
    expected = UnifiedPreprocessor(size_px=CLIENT_PX).square(decode_photo(content))
    difference = np.abs(sent.astype(int) - expected.astype(int))
    assert np.median(difference) <= 2
    assert np.mean(difference) < 3  # another way to shrink, and JPEG at 85
    quantised = Image.open(io.BytesIO(jpeg)).quantization[0]
    reference = io.BytesIO()
    Image.fromarray(expected).save(reference, "JPEG", quality=contract["jpeg_quality"])
    assert list(quantised) == list(Image.open(reference).quantization[0])


def test_a_pill_that_is_none_of_them_is_said_to_be_so(open_page):
    page = open_page()
    upload(page, colour_photo(strange_colour(6)[0]))
    page.wait_for_selector("#none:not([hidden])")
    assert page.inner_text("#none-title") == "Not one of the 6"
    assert page.inner_text("#list-title") == "Nearest known pills"


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page()
    page.set_viewport_size({"width": width, "height": 800})
    upload(page, colour_photo(colours(6)[1]))
    page.wait_for_selector("#result:not([hidden])")
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    low = page.evaluate(
        "[...document.querySelectorAll('.button')].filter((b) => b.offsetHeight && b.offsetHeight < 44).length"
    )
    assert low == 0


def test_what_is_no_photo_is_said_in_a_sentence_and_the_next_photo_works(open_page):
    page = open_page()
    upload(page, b"hello", "a.txt", "text/plain")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "This file is not a photo that your browser can read."
    upload(page, colour_photo(colours(6)[1]))
    page.wait_for_selector("#result:not([hidden])")
    assert page.is_hidden("#problem")


def test_a_busy_server_is_asked_once_more_and_then_named(open_page):
    page = open_page()
    answers = []

    def busy(route):
        answers.append(route)
        body = json.dumps({"error": "queue_full", "detail": "<img src=x onerror=document.title='pwned'>"})
        route.fulfill(status=503, headers={"Retry-After": "1", "Content-Type": "application/json"}, body=body)

    page.route("**/predict", busy)
    upload(page, colour_photo(colours(6)[1]))
    page.wait_for_selector("#state:has-text('trying again in 1 s')")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The server is busy. Please try again in 1 s."
    assert len(answers) == 2
    page.unroute("**/predict")
    page.click("#again")
    page.wait_for_selector("#result:not([hidden])")


@pytest.mark.parametrize(
    ("retry_after", "said"),
    [
        ("11", "in 11 s"),
        ("40", "in 40 s"),
        ("200", "in 4 minutes"),
        ("Sat, 21 Nov 2026 20:00:00 GMT", "in a moment"),
        (None, "in a moment"),
    ],
)
def test_whoever_is_to_wait_long_is_told_how_long_and_not_made_to_wait(open_page, retry_after, said):
    page = open_page()
    answers = []

    def busy(route):
        answers.append(route)
        named = {} if retry_after is None else {"Retry-After": retry_after}
        route.fulfill(status=503, headers={**named, "Content-Type": "application/json"}, body="{}")

    page.route("**/predict", busy)
    upload(page, colour_photo(colours(6)[1]))
    page.wait_for_selector("#problem:not([hidden])", timeout=5000)
    assert page.inner_text("#problem") == f"The server is busy. Please try again {said}."
    assert len(answers) == 1


def test_text_from_the_server_is_never_markup(open_page, server):
    page = open_page()
    markup = "<img src=x onerror=document.title='pwned'>"

    def rename(route):
        answer = route.fetch().json()
        answer["candidates"][0]["name"] = markup
        answer["photo"]["warnings"] = [markup]
        route.fulfill(json=answer)

    page.route("**/predict", rename)
    upload(page, colour_photo(colours(6)[1]))
    page.wait_for_selector("#result:not([hidden])")
    assert markup in page.locator("li.candidate").first.inner_text()
    assert page.locator("#result img").count() == 0
    assert page.title() == "pillsnap: which pill is this?"


def test_the_live_camera_gives_a_picture(open_page):
    page = open_page(permissions=["camera"])
    page.click("#live")
    page.wait_for_selector("#shutter:not([hidden])")
    page.click("#shutter")
    page.wait_for_selector("#result:not([hidden])")
    assert page.is_hidden("#video")


def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page):
    page = open_page()
    names = []
    for _ in range(5):
        page.keyboard.press("Tab")
        names.append(page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()"))
    assert names[:4] == ["Skip to the answer", "Take a photo", "Choose a file", "Live camera"]
    assert page.get_attribute("#answer", "aria-live") == "polite"
    assert page.get_attribute("#snap", "capture") == "environment"


def test_dark_mode_has_dark_ground_and_light_ink(open_page):
    page = open_page(color_scheme="dark")
    ground, ink = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    levels = [sum(map(int, text[4:-1].split(","))) for text in (ground, ink)]
    assert levels[0] < 100 < 600 < levels[1]


def test_an_untrained_model_says_so_before_it_is_asked_anything(chromium, tmp_path):
    server = PillServer(write_tiny_model(tmp_path, num_classes=3, version="untrained-00000000")).wait()
    try:
        page = chromium.new_page(viewport=PHONE)
        page.goto(server.url)
        page.wait_for_selector("#model:not(:empty)")
        assert page.inner_text("#scope").startswith("This model is untrained: its answers mean nothing.")
        page.close()
    finally:
        assert server.stop() == 0
