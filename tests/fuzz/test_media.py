"""Any bytes are a recording or an image that can be used, or an error that says why not."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aai.errors import AaiError
from aai.media import audio, containers, images, windows
from tests.corpus.images import IMAGES
from tests.corpus.pictures import chunk
from tests.corpus.sounds import SOUND_FORMATS, SOUNDS
from tests.fuzz.inputs import near, near_one_of
from tests.fuzz.outcome import outcome_of
from tests.media.containers import encoded

_MAX_BYTES = 60_000
_SOUNDS = tuple(data for data in (sound.data() for sound in (*SOUNDS, *SOUND_FORMATS)) if len(data) < _MAX_BYTES)
_IMAGES = tuple(data for data in (picture.data() for picture in IMAGES) if len(data) < _MAX_BYTES)

_CONTAINERS = (
    ("ipod", "aac", 16_000),
    ("mp4", "aac", 16_000),
    ("adts", "aac", 16_000),
    ("asf", "wmav2", 16_000),
    ("ac3", "ac3", 32_000),
    ("matroska", "flac", 16_000),
    ("webm", "libopus", 16_000),
    ("wv", "wavpack", 16_000),
    ("avi", "mp3", 16_000),
    ("mpegts", "aac", 16_000),
)

_PNGS = tuple(data for data in _IMAGES if data.startswith(b"\x89PNG"))


def _with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the check sums of their contents, so that a reader goes on to these."""
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        parts.append(chunk(name, body))
        at += 12 + size
    return b"".join(parts)


@given(near_one_of(_SOUNDS))
def test_any_bytes_are_a_recording_or_an_error(data):
    _assert_recording_or_error(data)


@cache
def _encoded(container: str, codec: str, rate_hz: int) -> bytes:
    return encoded(container, codec, rate_hz, duration_s=0.3, video=container in ("mp4", "avi"))


@pytest.mark.skipif(not containers.is_installed(), reason="the extra `av` is not installed")
@given(st.data())
def test_any_bytes_are_a_recording_or_an_error_for_ffmpegs_libraries(data):
    kind = data.draw(st.sampled_from(_CONTAINERS))
    _assert_recording_or_error(data.draw(near(_encoded(*kind))))


def _assert_recording_or_error(data: bytes) -> None:
    recording = outcome_of(lambda: audio.decode(data, "any.wav", audio.AudioOptions()))
    if not isinstance(recording, AaiError):
        wave = audio.to_mono(recording.samples)
        assert len(wave) and np.isfinite(wave).all() and recording.rate_hz > 0
        for window in windows.windows(wave, recording.rate_hz, audio.AudioOptions()):
            assert window.start_s + window.duration_s <= recording.duration_s + 1e-6


@given(near_one_of(_IMAGES) | near_one_of(_PNGS).map(_with_right_sums))
def test_any_bytes_are_an_image_or_an_error(data):
    decoded = outcome_of(lambda: images.decode(data, "any.png", images.ImageOptions()))
    if not isinstance(decoded, AaiError):
        assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape[2:] == (3,)
        assert sorted(decoded.pixels.shape[:2]) == sorted(decoded.stored_size_px)
