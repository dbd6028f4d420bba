"""The page in a real headless Chromium: no console errors, selectors and wipe do what they say."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from pvsc_link.media import Mp4Writer
from pvsc_link.report.page import write_report
from pvsc_link.sweep.store import frame_file, read_points, reference_file, video_file

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
COLOURS = {"pvsc": (200, 30, 30), "x265": (30, 30, 200)}


def keep_frames(folder):
    """A plain frame in each scheme's own colour, so that a screenshot tells which one is seen."""
    (folder / "frames").mkdir()
    points = read_points(folder)
    for _, point in points[points["seed"] == 1].iterrows():
        frame = np.full((120, 200, 3), COLOURS[point["scheme"]], np.uint8)
        frame[40:60, 90:120] = 255
        write_still_and_video(frame_file(folder, point["point_id"], 3), frame)
    source = np.zeros((120, 200, 3), np.uint8)
    write_still_and_video(reference_file(folder, "bikes", 3), source)


def write_still_and_video(path, last):
    """A video of four frames that gets brighter, and ends with the still."""
    Image.fromarray(last).save(path)
    with Mp4Writer(video_file(path), 25.0) as writer:
        for number in range(4):
            writer.write((last * (0.25 * (number + 1))).astype(np.uint8))


@pytest.fixture
def small(make_results, make_points):
    return make_results(make_points(clips=("bikes",), schemes=("pvsc", "x265")), anchor="x265")


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(word)
    options.add_argument("--enable-unsafe-swiftshader")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(300)
    driver.set_script_timeout(300)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """The browser, which must not complain during a test."""
    yield chromium
    said = chromium.get_log("browser")  # and forgets it
    assert not [line for line in said if line["level"] in ("SEVERE", "WARNING")]


def opened(browser, folder):
    page = write_report(folder, most_figures=0).page
    browser.get(page.resolve().as_uri())
    return browser


def choose(browser, name, index):
    browser.execute_script(
        "const s = document.getElementById(arguments[0]); s.selectedIndex = arguments[1];"
        "s.dispatchEvent(new Event('change'));",
        name,
        index,
    )


def drawn(browser):
    """(y axis title, x axis title, y values of every trace) of the plot."""
    return browser.execute_script(
        "const p = document.getElementById('plot');"
        "return [p.layout.yaxis.title.text, p.layout.xaxis.title.text, p.data.map((t) => t.y)];"
    )


def test_selectors_change_the_plot(browser, small):
    opened(browser, small)
    assert drawn(browser)[0] == "LPIPS (VGG)", "a perceptual metric comes first"
    choose(browser, "metric", 0)
    y, x, first = drawn(browser)
    assert y == "PSNR (dB)"
    assert x.startswith("CBR")
    choose(browser, "metric", 1)
    y, _, lpips = drawn(browser)
    assert y == "LPIPS (VGG)"
    assert lpips != first
    choose(browser, "metric", 0)
    choose(browser, "condition", 0)
    _, _, elsewhere = drawn(browser)
    assert elsewhere != first
    choose(browser, "axis", 1)
    _, x, over_snr = drawn(browser)
    assert x == "SNR (dB)"
    assert len(over_snr[-1]) == 2, "one value per SNR"
    browser.execute_script(
        "const b = document.getElementById('budget'); b.value = 0;"
        "b.dispatchEvent(new Event('input'))"
    )
    assert None in [value for line in drawn(browser)[2] for value in line], "too little CBR: a gap"


def test_the_page_opens_at_a_condition_in_the_middle(browser, make_results, make_points):
    snrs = (-3.0, 0.0, 3.0, 6.0, 9.0)
    points = make_points(schemes=("pvsc", "x265"), snrs=snrs, seeds=(1,))
    opened(browser, make_results(points, anchor="x265"))

    def chosen():
        return browser.execute_script("return document.getElementById('condition').selectedIndex")

    assert chosen() == 2, "five SNRs of AWGN come first"
    choose(browser, "condition", 1)
    choose(browser, "clip", 1)
    assert chosen() == 1, "another clip keeps the condition"


def seen(browser):
    """Colours at the left and the right quarter of the wipe, as on the screen."""
    browser.execute_script("document.getElementById('wipe').scrollIntoView({block: 'center'})")
    picture = browser.find_element("id", "wipe").screenshot_as_png
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    row = image[int(image.shape[0] * 0.8)]
    return [tuple(int(v) for v in row[int(len(row) * part)]) for part in (0.25, 0.75)]


def between_schemes(browser):
    choose(browser, "wipe-left", 1)
    choose(browser, "wipe-right", 2)


def wipe_to(browser, percent):
    browser.execute_script(
        "const w = document.getElementById('wipe-position'); w.value = arguments[0];"
        "w.dispatchEvent(new Event('input'))",
        percent,
    )


def test_the_wipe_shows_one_scheme_on_each_side(browser, small):
    keep_frames(small)
    opened(browser, small)
    assert seen(browser) == [(0, 0, 0), COLOURS["pvsc"]], "the reference against PVSC"
    between_schemes(browser)
    assert seen(browser) == [COLOURS["pvsc"], COLOURS["x265"]]
    wipe_to(browser, 10)
    assert seen(browser) == [COLOURS["x265"]] * 2
    wipe_to(browser, 90)
    assert seen(browser) == [COLOURS["pvsc"]] * 2
    choose(browser, "wipe-left", 0)
    assert seen(browser) == [(0, 0, 0)] * 2, "the reference"


def test_the_slider_over_snr_changes_the_pictures_and_keeps_what_is_wiped(browser, small):
    keep_frames(small)
    opened(browser, small)
    between_schemes(browser)

    def shown():
        return browser.execute_script(
            "return [document.getElementById('snr-value').textContent,"
            " document.getElementById('wipe-left-name').textContent,"
            " document.querySelector('#gallery figure:nth-child(2) figcaption').textContent]"
        )

    high = shown()
    browser.find_element("id", "snr").send_keys(Keys.ARROW_LEFT)
    low = shown()
    assert [high[0], low[0]] == ["6 dB", "0 dB"]
    assert high[1] == low[1] == "PVSC"
    assert high[2] != low[2], "CBR and metrics of that SNR"


def tiles_at(browser, frame):
    """Mean colours of the tiles on the screen at a frame of the video."""
    browser.execute_script(
        "const slider = document.getElementById('film-frame'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'))",
        frame,
    )
    wanted = f"{frame + 1} of 4"
    WebDriverWait(browser, 30).until(
        lambda _: browser.find_element("id", "film-number").text == wanted
    )
    browser.execute_script("document.getElementById('tiles').scrollIntoView({block: 'center'})")
    colours = []
    for canvas in browser.find_elements("css selector", "#tiles canvas"):
        picture = Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")
        colours.append(np.asarray(picture)[: picture.height // 4].mean((0, 1)))
    return np.array(colours)


def test_videos_show_one_frame_of_every_scheme_at_a_time(browser, small):
    keep_frames(small)
    opened(browser, small)
    WebDriverWait(browser, 30).until(
        lambda _: browser.execute_script("return document.getElementById('film').readyState >= 2")
    )
    whole = np.array([(0, 0, 0), COLOURS["pvsc"], COLOURS["x265"]])
    assert np.abs(tiles_at(browser, 1) - 0.5 * whole).max() < 12
    assert np.abs(tiles_at(browser, 3) - whole).max() < 12
    browser.find_element("id", "play").click()
    WebDriverWait(browser, 30).until(
        lambda _: browser.find_element("id", "film-number").text != "4 of 4"
    )
    assert browser.find_element("id", "play").text == "Pause"


def test_dragging_across_the_picture_wipes(browser, small):
    keep_frames(small)
    opened(browser, small)
    between_schemes(browser)
    seen(browser)  # scrolls there
    picture = browser.find_element("id", "wipe")
    width = picture.size["width"]
    actions = webdriver.ActionChains(browser)
    actions.move_to_element(picture).click_and_hold().move_by_offset(int(width * 0.4), 0).release()
    actions.perform()
    assert seen(browser) == [COLOURS["pvsc"]] * 2


def test_a_click_moves_the_first_zoom_box_in_every_frame(browser, small):
    keep_frames(small)
    opened(browser, small)

    def lefts():
        return browser.execute_script(
            "return [...document.querySelectorAll('.frame')]"
            ".map((f) => f.querySelector('.box').style.left)"
        )

    before = lefts()
    browser.execute_script("document.querySelector('.frame').scrollIntoView({block: 'center'})")
    frame = browser.find_element("css selector", ".frame")
    beside_the_middle = frame.size["width"] // 4
    actions = webdriver.ActionChains(browser)
    actions.move_to_element_with_offset(frame, beside_the_middle, 0).click().perform()
    after = lefts()
    assert len(after) == 3
    assert len(set(after)) == 1
    assert after != before
    assert float(after[0].rstrip("%")) == pytest.approx(64, abs=1), "centred where it was clicked"


def test_tables_sort_and_rows_are_found(browser, small):
    opened(browser, small)

    def column(index):
        return browser.execute_script(
            "return [...document.querySelectorAll('#table_2_snr tbody tr')]"
            ".map((r) => r.cells[arguments[0]].textContent)",
            index,
        )

    head = browser.find_elements("css selector", "#table_2_snr th")[1]
    browser.execute_script("arguments[0].click()", head)
    assert column(1) == sorted(column(1), key=float)
    browser.execute_script("arguments[0].click()", head)
    assert column(1) == sorted(column(1), key=float, reverse=True)
    browser.execute_script(
        "const f = document.getElementById('filter'); f.value = 'x265 rayleigh 37';"
        "f.dispatchEvent(new Event('input'))"
    )
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#points-table tbody tr')].map((r) => r.textContent)"
    )
    assert rows
    assert all("x265" in row and "rayleigh" in row for row in rows)


def test_a_link_keeps_what_was_chosen(browser, small):
    opened(browser, small)
    choose(browser, "metric", 0)
    choose(browser, "condition", 0)
    chosen, link = drawn(browser), browser.current_url
    browser.get("about:blank")
    browser.get(link)
    assert drawn(browser) == chosen


def test_nothing_offers_an_upload_and_heads_can_be_reached_by_keyboard(browser, small):
    opened(browser, small)
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)"
    )
    assert titles == ["Zoom", "Pan", "Reset axes"]
    assert browser.execute_script("return document.querySelector('#table_2_snr th').tabIndex") == 0


def test_what_is_shown_can_be_saved_as_csv(browser, small):
    opened(browser, small)
    lines = browser.execute_script("return shownCsv()").splitlines()
    assert lines[0] == "scheme,cbr,lpips,low,high"
    assert len(lines) > 4
    rows = browser.execute_script("return rowsCsv()").splitlines()
    assert len(rows) == 1 + len(read_points(small))


@pytest.mark.parametrize("width", [390, 900, 1400])
def test_no_width_scrolls_sideways(browser, small, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    opened(browser, small)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_dark_page_is_dark(browser, small):
    opened(browser, small)
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor === 'rgb(18, 23, 28)'"
        " && document.getElementById('plot').layout.paper_bgcolor === '#12171c'"
    )


def test_a_page_of_nothing_works_too(browser, tmp_path):
    opened(browser, tmp_path)
    assert "no curve" in browser.find_element("id", "plot-note").text


def test_ten_thousand_points_stay_usable(browser, make_results, make_points):
    snrs, rates = tuple(range(0, 22, 2)), (22, 25, 27, 32, 37, 42)
    points = make_points(snrs=snrs, seeds=(1, 2, 3, 4, 5, 6, 7), rates=rates)
    assert len(points) > 10_000
    folder = make_results(points, anchor=None)
    opened(browser, folder)
    assert (folder / "report.html").stat().st_size < 10_000_000
    browser.find_element("id", "singles").click()
    choose(browser, "axis", 1)
    traces = drawn(browser)[2]
    assert max(len(line) for line in traces) > 100, "every point is there"
