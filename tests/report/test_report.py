"""The page and what is in it: small enough, right to look at, and deaf to what users may write."""

import base64
import io
import re
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import soundfile
from PIL import Image

from aai.report import (
    Card,
    Cue,
    Made,
    Neighbour,
    Picture,
    RejectKind,
    Report,
    ScoreLine,
    Shown,
    Sound,
    StageTime,
    Thumb,
    media,
    page,
)

RATE_HZ = 16_000
EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{ 7 * 7 }}&amp;"""
NOTHING = Report("bank", "today", [("clips", 0, "")], 0, [], [], [], [], [], [], "tiny")


def tone(hertz: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def light_by_band(wave: np.ndarray) -> np.ndarray:
    """The mean light of each band, lowest first."""
    return media.spectrogram(wave, RATE_HZ).mean(axis=(1, 2))[::-1]


def test_a_sound_keeps_its_length_and_pitch_in_a_small_file():
    data = media.mp3(tone(1000, 5), RATE_HZ)
    wave, rate = soundfile.read(io.BytesIO(data))
    assert rate == RATE_HZ and len(data) < 40_000
    assert len(wave) / rate == pytest.approx(5, abs=0.15)
    assert np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize(("rate", "expected"), [(4_000, 8_000), (11_025, 12_000), (44_100, 32_000), (192_000, 32_000)])
def test_any_rate_becomes_one_that_mp3_knows(rate, expected):
    wave, found = media.prepared(tone(500, 1, rate), rate)
    assert found == expected and len(wave) == pytest.approx(expected, abs=2)


def test_what_is_too_long_or_too_loud_is_cut_and_lowered():
    wave, _ = media.prepared(3 * tone(440, 40), RATE_HZ)
    assert len(wave) == 30 * RATE_HZ and np.abs(wave).max() <= 1


def test_a_higher_tone_stands_higher_in_the_spectrogram():
    low, high = (int(light_by_band(tone(pitch)).argmax()) for pitch in (300, 3000))
    assert 0 < low < high < 63


def test_light_follows_the_sound_from_left_to_right():
    wave = np.concatenate([np.zeros(RATE_HZ, np.float32), tone(1000)])
    light = media.spectrogram(wave, RATE_HZ).mean(axis=(0, 2))
    assert light[:100].max() < light[160:].min()


@pytest.mark.parametrize("num_samples", [1, 2, 800])
def test_the_shortest_clips_and_silence_have_a_spectrogram(num_samples):
    assert media.spectrogram(np.zeros(num_samples, np.float32), RATE_HZ).shape == (64, 256, 3)


def test_thumbnails_are_webp_of_128_pixels_at_most_and_not_distorted():
    for shape, size in (((600, 300, 3), (64, 128)), ((64, 64, 3), (64, 64))):
        found = Image.open(io.BytesIO(media.thumbnail(np.zeros(shape, np.uint8))))
        assert (found.format, found.size) == ("WEBP", size)


def heights(losses: list[float], lowest: float) -> list[float]:
    """How far below its beginning a curve is, look by look."""
    points = media.curve(media.relative(losses), lowest).points.split()
    downs = [float(point.split(",")[1]) for point in points]
    return [down - downs[0] for down in downs]


def test_a_falling_loss_is_a_falling_line_on_a_scale_that_clips_share():
    assert heights([0.4, float("nan"), 0.3, 0.2], 0.5) == pytest.approx([0, 26, 52])
    assert heights([8.0, 6.0], 0.5) == pytest.approx([0, 26])
    assert heights([0.1, 0.1], 1.0) == [0, 0]


def test_without_two_losses_there_is_no_curve():
    for losses in ([0.1], [], None, [float("nan"), 1.0]):
        assert media.curve(media.relative(losses), 0.5) is None


def full(text: str) -> Report:
    """A page on which every text that users can choose is this one."""
    thumb = Thumb(text, src="data:,")
    picture = Picture(thumb, 1, {"ais_rank": 0.5, text: 0.5})
    gone = Picture(Thumb(text, problem=text), 1, {})
    card = Card(
        clip_id="abc", label=text, caption=text, licence=text, uri=f"/sounds/{text.replace('/', '')}", start_s=0.0,
        duration_s=5.0, level_dbfs=-20.0, intensity=0.5, sound=Sound(problem=text), neighbours=[Neighbour(thumb, 0.5)],
        num_more_neighbours=0, cue=Cue("mapper", 3, text, 0.2, 0.1, media.curve([1.0, 0.5], 0.5)),
        shown=[Shown(text, text, text, [picture, gone], 2)], scores={text: {text: 0.5}},
    )  # fmt: skip
    return Report(
        workspace=text, made_at="today", totals=[("clips", 1, "")], num_clips=3,
        cards=[card, replace(card, sound=Sound("data:,", "data:,", 8_000, 5.0))],
        lines=[ScoreLine(text, True, job, 2, {"ais_rank": 0.5, text: 0.5}, 0.5) for job in (None, text)],
        rejects=[RejectKind("ingest_audio", text, 3, [(text, text)])],
        stages=[StageTime("fit", 1, 2, 0, 3.0, 1.0, 0.7, "today", True)],
        made=[Made("cues", "fit", "f00", 1, 0, text, [("audio", text)])], versions=[("aai", "1")], profile=text,
    )  # fmt: skip


def test_whatever_users_write_is_text_and_no_markup():
    html = page(full(EVIL))
    assert "alert(1)" in html
    assert html.count("<script>") == 1 and "<img src=x" not in html and "alert(2)>" not in html
    assert "{{ 7 * 7 }}" in html


def test_no_script_or_style_runs_but_ours():
    html = page(full("rain"))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_nothing_is_loaded_from_elsewhere():
    html = page(full("rain"))
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', html))
    assert not re.search(r"https?:|url\(|@import", html)


def test_every_picture_has_a_text():
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", page(full("rain"))))


def test_a_page_about_nothing_says_none():
    html = page(NOTHING)
    for what in ("no pictures are scored yet", "<code>aai build</code> makes them", "None.", "no stage has run yet"):
        assert what in html


def test_a_sampled_page_says_so():
    assert "2 of 3 clips are on this page, evenly sampled" in page(full("rain"))


def test_a_share_of_the_loss_is_a_gain():
    assert Cue("adapter", 8, None, 0.2, 0.15, None).gain == pytest.approx(0.25)
    assert Cue("mapper", 0, None, None, None, None).gain is None
