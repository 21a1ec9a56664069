"""Any bytes are a recording or an image that can be used, or an error that says why not."""

import numpy as np
from hypothesis import given

from aai.errors import AaiError
from aai.media import audio, images
from tests.corpus.images import IMAGES
from tests.corpus.pictures import chunk
from tests.corpus.sounds import SOUND_FORMATS, SOUNDS
from tests.fuzz.inputs import near_one_of
from tests.fuzz.outcome import outcome_of

_MAX_BYTES = 60_000
_SOUNDS = tuple(data for data in (sound.data() for sound in (*SOUNDS, *SOUND_FORMATS)) if len(data) < _MAX_BYTES)
_IMAGES = tuple(data for data in (picture.data() for picture in IMAGES) if len(data) < _MAX_BYTES)

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
    recording = outcome_of(lambda: audio.decode(data, "any.wav", audio.AudioOptions()))
    if not isinstance(recording, AaiError):
        wave = audio.to_mono(recording.samples)
        assert len(wave) and np.isfinite(wave).all() and recording.rate_hz > 0
        for window in audio.windows(wave, recording.rate_hz, audio.AudioOptions()):
            assert window.start_s + window.duration_s <= recording.duration_s + 1e-6


@given(near_one_of(_IMAGES) | near_one_of(_PNGS).map(_with_right_sums))
def test_any_bytes_are_an_image_or_an_error(data):
    decoded = outcome_of(lambda: images.decode(data, "any.png", images.ImageOptions()))
    if not isinstance(decoded, AaiError):
        assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape[2:] == (3,)
        assert sorted(decoded.pixels.shape[:2]) == sorted(decoded.stored_size_px)
