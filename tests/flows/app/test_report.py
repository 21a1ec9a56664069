"""The page in a browser: Chromium opens it from disk, plays, filters and sorts, and runs no script but ours."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aai.workspace import Health
from flows.app.cli import app
from flows.app.report import report
from tasks.runtime.run import Run
from tests.gallery import JOBS, SOUNDS, Sound, add_scores, make_gallery

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1600""".split()

EVIL_LABEL = "<script>window.owned = 1</script>"
EVIL_FILE = '"><img src=x onerror=window.owned=2>.flac'
EVIL = Sound("fire", 0.4, EVIL_LABEL, EVIL_FILE)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Run:
    run = make_gallery(tmp_path_factory.mktemp("gallery"), [*SOUNDS, EVIL])
    add_scores(run)
    return run


@pytest.fixture(scope="module")
def page_path(gallery, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report(gallery, path) == str(path)
    return path


@pytest.fixture(scope="module")
def browser(page_path, tmp_path_factory) -> Iterator:
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(DRIVER))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page_path):
    browser.get_log("browser")
    browser.get(page_path.as_uri())
    return browser


def shown(browser) -> list[str]:
    """The files of the cards that are to be seen, from top to bottom."""
    cards = browser.find_elements("css selector", ".card")
    return [card.get_attribute("data-file") for card in cards if card.is_displayed()]


def choose(browser, field: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", field)).select_by_value(value)


def test_the_page_opens_without_a_complaint_and_is_whole(opened):
    assert len(shown(opened)) == len(SOUNDS) + 1
    assert opened.find_element("id", "count").text == f"{len(SOUNDS) + 1} of {len(SOUNDS) + 1} shown"
    assert opened.get_log("browser") == []


def test_every_picture_is_decoded(opened):
    widths = opened.execute_async_script("""
        const done = arguments[0];
        const width = (image) => image.decode().then(() => image.naturalWidth, () => 0);
        Promise.all([...document.images].map(width)).then(done);
    """)
    num_cards = len(SOUNDS) + 1
    assert len(widths) == num_cards * (1 + 3 + len(JOBS)) and min(widths) > 0


def test_every_sound_has_its_length(opened):
    lengths = opened.execute_async_script("""
        const done = arguments[0];
        const loaded = (sound) => new Promise((resolve) => {
            sound.onloadedmetadata = sound.onerror = () => resolve(sound.duration);
            sound.load();
        });
        Promise.all([...document.querySelectorAll("audio")].map(loaded)).then(done);
    """)
    assert lengths == [pytest.approx(5, abs=0.2)] * (len(SOUNDS) + 1)


def test_a_click_on_the_spectrogram_plays_from_there(opened):
    opened.find_element("css selector", ".spectrum").click()
    found = opened.execute_async_script(
        "const [done, sound] = [arguments[0], document.querySelector('audio')];"
        "setTimeout(() => done([sound.paused, sound.currentTime]), 300)"
    )
    assert found[0] is False and 2 < found[1] < 4


def test_what_users_write_is_shown_as_text_and_never_run(opened):
    names = [each.text for each in opened.find_elements("css selector", ".card h3")]
    assert EVIL_LABEL in names
    files = [each.text for each in opened.find_elements("css selector", ".facts dd")]
    assert EVIL_FILE in files
    assert opened.execute_script("return window.owned") is None
    assert len(opened.find_elements("css selector", "script")) == 1


def test_a_label_leaves_its_cards_and_text_narrows_further(opened):
    choose(opened, "by-label", "rain")
    assert sorted(shown(opened)) == ["downpour.flac", "drizzle.flac", "rain.flac"]
    opened.find_element("id", "find").send_keys("DRIZ")
    assert shown(opened) == ["drizzle.flac"]
    opened.find_element("id", "find").send_keys("zzzz")
    assert shown(opened) == [] and opened.find_element("id", "no-match").is_displayed()


def test_an_evil_label_can_be_filtered_by_and_so_can_none(opened):
    choose(opened, "by-label", EVIL_LABEL)
    assert shown(opened) == [EVIL_FILE]
    opened.find_element("css selector", "#by-label option[data-none]").click()
    assert shown(opened) == ["unnamed.flac"]


def test_a_method_that_made_a_clip_shows_it(opened):
    choose(opened, "by-method", "mapper")
    assert len(shown(opened)) == len(SOUNDS) + 1


def test_cards_are_sorted_by_what_is_asked_and_turned_round(opened):
    by_intensity = [sound.name for sound in sorted([*SOUNDS, EVIL], key=lambda sound: sound.intensity)]
    choose(opened, "sort", "intensity")
    assert shown(opened) == by_intensity
    opened.find_element("id", "turn").click()
    assert shown(opened) == by_intensity[::-1]
    choose(opened, "sort", "file")
    assert shown(opened)[0] == "unnamed.flac"


def test_cards_are_sorted_by_score_and_by_what_the_fit_gained_the_unknown_last(opened):
    def values(name: str) -> list:
        cards = opened.find_elements("css selector", ".card")
        return [opened.execute_script(f"return {name}", card) for card in cards]

    choose(opened, "sort", "score:ais_rank")
    ranks = values("JSON.parse(arguments[0].dataset.scores)[''].ais_rank")
    assert ranks == sorted(ranks) and len(set(ranks)) > 1
    choose(opened, "sort", "gain")
    gains = values("arguments[0].dataset.gain")
    assert gains[-1] is None and [float(gain) for gain in gains[:-1]] == sorted(float(gain) for gain in gains[:-1])


def test_reset_brings_all_back_in_the_first_order(opened):
    from selenium.webdriver.support.ui import WebDriverWait

    before = shown(opened)
    choose(opened, "sort", "intensity")
    choose(opened, "by-label", "fire")
    opened.find_element("id", "turn").click()
    opened.find_element("css selector", "#bar [type=reset]").click()
    WebDriverWait(opened, 20).until(lambda page: page.find_element("id", "turn").text == "ascending")
    assert shown(opened) == before


def test_on_a_phone_nothing_sticks_out(opened):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        whole, seen = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert whole <= seen == 360
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(("width", "num_in_a_row"), [(1_400, 3), (400, 2)])
def test_the_pictures_of_a_job_stand_side_by_side(opened, width, num_in_a_row):
    """Three seeds of a prompt, where the page of the gallery has one."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        tops = opened.execute_script("""
            const row = document.querySelector(".job .pictures"), first = row.firstElementChild;
            row.append(first.cloneNode(true), first.cloneNode(true));
            row.scrollIntoView();
            return [...row.children].map(each => each.offsetTop);
        """)
        assert tops.count(tops[0]) == num_in_a_row and len(tops) == 3
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_command_writes_the_page_and_says_where(gallery, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("aai.yaml").write_text(f"workspace: {gallery.workspace.uri}\nfit: {{method: mapper}}\n")
    done = CliRunner().invoke(app, ["report", "--clips", "3"])
    assert done.exit_code == 0, done.output
    html = Path(gallery.workspace.uri, "report.html").read_text()
    assert "3 of 7 clips are on this page" in html and "report.html" in done.output
    assert gallery.workspace.health() == Health([], [], [], [], {})
    for _ in range(2):
        assert CliRunner().invoke(app, ["report", "--clips", "1", "-o", "new/report.html"]).exit_code == 0
    Path("own.html").write_text("<title>mine</title>")
    wrong = CliRunner().invoke(app, ["report", "-o", "own.html"])
    assert wrong.exit_code == 2 and "own.html: --output: it exists, and this command did not write it" in wrong.output
    assert Path("own.html").read_text() == "<title>mine</title>"


def test_the_page_of_a_workspace_without_any_table_is_written_into_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("aai.yaml").write_text("workspace: bank\n")
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 0, done.output
    assert Path("bank", "report.html").exists()


def test_the_command_score_says_what_scores_come_to_and_does_nothing_twice(gallery, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("aai.yaml").write_text(f"workspace: {gallery.workspace.uri}\nfit: {{method: mapper}}\n")
    done = CliRunner().invoke(app, ["score"])
    assert done.exit_code == 0, done.output
    rows = [line.replace("│", " ").split() for line in done.output.splitlines()]
    assert ["mapper", "1.000", "0.476"] in rows and ["verb"] in [row[:1] for row in rows]
    Path("aai.yaml").write_text("workspace: empty\n")
    assert "run `aai render` first" in CliRunner().invoke(app, ["score"]).output
