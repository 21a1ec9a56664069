"""A ballot in Chromium: votes by key, undo, progress, and a file that the tally reads."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.app.cli import app
from tests.flows.app.test_report import CHROMIUM, DRIVER, FLAGS
from tests.tasks.evaluate.comparison import METHODS, PROMPT, write_comparison

KEYS = {"left": "\ue012", "right": "\ue014", "tie": "\ue015"}
BACKSPACE, SPACE = "\ue003", " "
WAIT_S = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = write_comparison(tmp_path_factory.mktemp("work") / "comparison")
    done = CliRunner().invoke(app, ["evaluate", "ballot", str(folder), "--question", "Which <i>fits</i>?"])
    assert done.exit_code == 0, done.output
    assert "11 pairs of 4 clips" in done.output and "keep" in done.output
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        *FLAGS,
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(DRIVER))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def begin(browser, folder: Path, voter: str):
    browser.get((folder / "ballot.html").as_uri())
    browser.find_element("id", "voter").send_keys(voter + "\ue007")
    return browser


def press(browser, key: str) -> None:
    browser.find_element("tag name", "body").send_keys(key)


def count(browser) -> str:
    return browser.find_element("id", "count").text


def shown(browser) -> tuple[str, str]:
    return tuple(
        browser.find_element("css selector", f"#{side} img").get_attribute("src") for side in ("left", "right")
    )


def test_keys_vote_and_undo_and_the_text_is_blind(browser, folder):
    browser.get_log("browser")
    begin(browser, folder, "Ada")
    first = shown(browser)
    assert count(browser) == "0 of 11" and all(source.startswith("data:image/webp") for source in first)
    text = browser.find_element("tag name", "body").text
    assert "Which <i>fits</i>?" in text and PROMPT in text and not any(method in text for method in METHODS)
    press(browser, KEYS["left"])
    assert count(browser) == "1 of 11" and shown(browser) != first
    press(browser, KEYS["right"])
    press(browser, BACKSPACE)
    press(browser, BACKSPACE)
    assert count(browser) == "0 of 11" and shown(browser) == first
    assert browser.get_log("browser") == []


def test_the_sound_plays_and_stops_by_the_space_bar(browser, folder):
    begin(browser, folder, "Bea")
    paused = "const done = arguments[0]; setTimeout(() => done(document.getElementById('sound').paused), 200)"
    before = browser.execute_async_script(paused)
    press(browser, SPACE)
    assert browser.execute_async_script(paused) is not before
    assert count(browser) == "0 of 11"


def test_votes_are_there_when_the_page_is_opened_again_and_each_voter_has_an_own_order(browser, folder):
    begin(browser, folder, "Cem")
    first = shown(browser)
    press(browser, KEYS["tie"])
    begin(browser, folder, "Cem")
    assert count(browser) == "1 of 11"
    starts = set()
    for voter in ("Dora", "Eli", "Finn", "Gus"):
        begin(browser, folder, voter)
        starts.add(shown(browser))
    assert len(starts | {first}) > 1


def test_saved_votes_give_a_ranking(browser, folder, tmp_path):
    key = json.loads((folder / "ballot-key.json").read_text())["pairs"]
    begin(browser, folder, "Ada & co")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for number in range(11):
        pair = browser.execute_script("return pairs[votes.length].id")
        left, right = (METHODS.index(key[pair][side]["method"]) for side in ("left", "right"))
        press(browser, KEYS["tie" if number == 3 else "left" if left < right else "right"])
    assert count(browser) == "11 of 11" and browser.find_element("id", "end").is_displayed()
    browser.find_element("id", "save").click()
    path, end_s = tmp_path / "votes-Ada_co.json", time.monotonic() + WAIT_S
    while not path.exists() and time.monotonic() < end_s:
        time.sleep(0.1)
    saved = json.loads(path.read_text())
    assert saved["voter"] == "Ada & co" and len(saved["votes"]) == 11 and saved["saved_at"].endswith("Z")
    shutil.copy(folder / "ballot-key.json", tmp_path)
    done = CliRunner().invoke(app, ["evaluate", "--tally", str(path), "--output", str(tmp_path / "tally.json")])
    assert done.exit_code == 0 and "11 votes of 1 voters on 4 clips; 1 ties" in done.output, done.output
    ranking = json.loads((tmp_path / "tally.json").read_text())
    assert [standing["method"] for standing in ranking["standings"]] == list(METHODS)


def test_a_page_of_another_kind_is_not_replaced(folder, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    done = CliRunner().invoke(app, ["evaluate", "--ballot", str(folder), "-o", str(tmp_path / "mine.html")])
    assert done.exit_code == 2 and "this command did not write it" in done.output


def test_a_second_ballot_leaves_the_first_and_its_key(folder, tmp_path):
    def write(*arguments: str):
        return CliRunner().invoke(app, ["evaluate", "ballot", str(folder), *arguments])

    page, other = tmp_path / "ballot.html", tmp_path / "other.html"
    assert write("-o", str(page)).exit_code == write("-o", str(page)).exit_code == 0
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused = write("-o", str(page), "--pairs", "3")
    assert refused.exit_code == 2 and "ballot-key.json: it is the key of another ballot" in " ".join(
        refused.output.split()
    )
    assert write("-o", str(other), "--pairs", "3").exit_code == 0 and (tmp_path / "other-key.json").exists()
    assert files.keys() < set(tmp_path.iterdir()) and all(path.read_bytes() == data for path, data in files.items())


@pytest.mark.parametrize("question", ["", "why " * 200])
def test_a_question_that_cannot_be_is_refused_in_a_sentence(folder, tmp_path, question):
    page = tmp_path / "ballot.html"
    done = CliRunner().invoke(app, ["evaluate", "ballot", str(folder), "--question", question, "-o", str(page)])
    assert done.exit_code == 2 and done.output.startswith("aai: question: ") and not page.exists()
