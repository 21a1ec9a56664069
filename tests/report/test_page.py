"""The HTML page: self-contained, with every user text escaped."""

import base64
import re
from dataclasses import replace
from hashlib import sha256

from aai.metrics import Agreement
from aai.report import (
    Card,
    Cue,
    JobPictures,
    Neighbour,
    Origin,
    Picture,
    RejectKind,
    Report,
    ScoreLine,
    Sound,
    StageTime,
    Thumb,
    media,
    page,
)

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{ 7 * 7 }}&amp;"""
NOTHING = Report("bank", "today", [("clips", 0, "")], 0, [], [], [], [], [], [], "tiny")

AGREES = Agreement(0.5, 0.1, 0.7)


def full(text: str) -> Report:
    """A report in which every text that users control is `text`."""
    thumb = Thumb(text, src="data:,")
    picture = Picture(thumb, 1, {"ais_rank": 0.5, text: 0.5})
    missing = Picture(Thumb(text, problem=text), 1, {})
    card = Card(
        clip_id="abc", label=text, caption=text, licence=text, uri=f"/sounds/{text.replace('/', '')}", start_s=0.0,
        duration_s=5.0, level_dbfs=-20.0, intensity=0.5, sound=Sound(problem=text), neighbours=[Neighbour(thumb, 0.5)],
        num_more_neighbours=0, cue=Cue("mapper", 3, text, 0.2, 0.1, media.loss_curve([1.0, 0.5], 0.5)),
        jobs=[JobPictures(text, text, text, [picture, missing], 2)], scores={text: {text: 0.5}},
    )  # fmt: skip
    return Report(
        workspace=text, created_at="today", totals=[("clips", 1, "")], num_clips=3,
        cards=[card, replace(card, sound=Sound("data:,", "data:,", 8_000, 5.0))],
        lines=[ScoreLine(text, True, job, 2, {"ais_rank": 0.5, text: 0.5}, AGREES) for job in (None, text)],
        rejects=[RejectKind("ingest_audio", text, 3, [(text, text)])],
        stages=[StageTime("fit", 1, 2, 0, 3.0, 1.0, 0.7, "today", True)],
        origins=[Origin("cues", "fit", "f00", 1, 0, text, [("audio", text)])], versions=[("aai", "1")], profile=text,
    )  # fmt: skip


def test_what_agrees_with_itself_is_marked_and_bias_stands_beside_the_rank():
    html = page(replace(full("rain"), dependent=frozenset({"ais_rank"})))
    assert html.index(">intensity ρ<") < html.index(">bias<") < html.index(">slope<") < html.index(">AIS-rank ")
    assert html.count(">not independent<") == 1 and ">not independent<" not in page(full("rain"))


def test_user_texts_are_escaped():
    html = page(full(EVIL))
    assert "alert(1)" in html
    assert html.count("<script>") == 1 and "<img src=x" not in html and "alert(2)>" not in html
    assert "{{ 7 * 7 }}" in html


def test_the_policy_allows_only_the_pages_own_script_and_style():
    html = page(full("rain"))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_the_page_is_self_contained():
    html = page(full("rain"))
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', html))
    assert not re.search(r"https?:|url\(|@import", html)


def test_every_image_has_an_alt_text():
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", page(full("rain"))))


def test_an_empty_report_says_what_to_run():
    html = page(NOTHING)
    for part in ("no pictures are scored yet", "run <code>aai build</code>", "None.", "no stage has run yet"):
        assert part in html


def test_a_page_of_some_clips_says_how_many_there_are():
    assert "2 of 3 clips are on this page, evenly sampled" in page(full("rain"))


def test_a_card_has_an_intensity_only_if_it_is_known_and_says_what_stopped_early():
    report = full("rain")
    assert page(report).count("<dt>intensity</dt>") == len(report.cards)
    bare = replace(report, cards=[replace(card, intensity=None) for card in report.cards])
    assert "<dt>intensity</dt>" not in page(bare)
    cue = report.cards[0].cue
    for reason, num in (("steps", 0), ("steady", 1)):
        cards = [replace(report.cards[0], cue=replace(cue, stop_reason=reason))]
        assert page(replace(report, cards=cards)).count("(early stopping)") == num
