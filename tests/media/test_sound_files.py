"""Every well-formed recording of the corpus decodes to the wave from which it was encoded."""

import numpy as np
import pytest

from aai.errors import BadItem
from aai.media.audio import AudioOptions, Recording, decode
from tests.corpus import params
from tests.corpus.broken_sounds import BROKEN_SOUNDS
from tests.corpus.cases import Broken, Sound
from tests.corpus.sounds import SOUND_FORMATS, SOUNDS

OPTIONS = AudioOptions()
_MAX_SHIFT_S = 0.1  # delay of an MP3 encoder


def shift_of(found: np.ndarray, wave: np.ndarray, rate_hz: int) -> int:
    """By how many samples the wave comes later than it should; whole periods of a sine are as good as none."""
    most = round(_MAX_SHIFT_S * rate_hz)
    middle = wave[: len(wave) - most, 0]
    lags = np.correlate(found[: len(middle) + most, 0], middle, "valid")
    return int(np.argmax(lags))


def error_of(found: np.ndarray, wave: np.ndarray) -> float:
    """RMS error relative to the RMS of the wave."""
    length = min(len(found), len(wave))
    return float(np.sqrt(np.mean((found[:length] - wave[:length]) ** 2) / np.mean(wave**2)))


@pytest.mark.parametrize("sound", params(SOUNDS))
def test_a_recording_has_the_samples_from_which_it_was_encoded(sound: Sound):
    check(decode(sound.data(), sound.name, OPTIONS), sound)


@pytest.mark.parametrize("sound", params(SOUND_FORMATS))
def test_a_format_out_of_use_is_read_right_or_rejected_with_a_remedy(sound: Sound):
    try:
        recording = decode(sound.data(), sound.name, OPTIONS)
    except BadItem as error:
        assert "not supported" in error.sentence and "convert it" in error.sentence
    else:
        check(recording, sound)


def check(recording: Recording, sound: Sound) -> None:
    wave = sound.wave()
    assert (recording.rate_hz, recording.samples.shape[1]) == (sound.rate_hz, wave.shape[1])
    surplus = len(recording.samples) - len(wave)
    assert 0 <= surplus <= sound.surplus_s * sound.rate_hz
    shifts = (0, shift_of(recording.samples, wave, sound.rate_hz)) if surplus else (0,)
    assert min(error_of(recording.samples[shift:], wave) for shift in shifts) <= sound.error


@pytest.mark.parametrize("case", params(BROKEN_SOUNDS))
def test_a_broken_recording_is_rejected_with_the_reason(case: Broken):
    with pytest.raises(BadItem) as caught:
        decode(case.data(), case.name, OPTIONS)
    assert caught.value.uri == case.name and case.sentence in caught.value.sentence
    assert ": " in caught.value.sentence and caught.value.sentence.isprintable()
