"""Audio formats decode to the right samples; unusable files are rejected with the reason."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from aai.errors import BadItem
from aai.media.audio import (
    AudioOptions,
    decode,
    fit_length,
    level_dbfs,
    loudest_dbfs,
    resample,
    to_mono,
)
from aai.media.windows import Window, windows
from tests.media.sounds import file_of, sine, with_flac_length

OPTIONS = AudioOptions()
ESC10 = Path(__file__).parents[3] / "shared" / "data" / "esc10"
SINE_DBFS = 20 * np.log10(0.5) - 3.0103  # of amplitude one half


def rejection(data: bytes, options: AudioOptions = OPTIONS) -> str:
    with pytest.raises(BadItem) as caught:
        decode(data, "sounds/rain.wav", options)
    assert caught.value.uri == "sounds/rain.wav"
    return caught.value.sentence


LOSSLESS = [
    ("WAV", "PCM_U8", 2**-7),
    ("WAV", "PCM_16", 2**-15),
    ("WAV", "PCM_24", 2**-23),
    ("WAV", "PCM_32", 2**-24),
    ("WAV", "FLOAT", 0),
    ("WAV", "DOUBLE", 0),
    ("WAVEX", "PCM_16", 2**-15),
    ("RF64", "PCM_16", 2**-15),
    ("W64", "PCM_16", 2**-15),
    ("AIFF", "PCM_16", 2**-15),
    ("AU", "PCM_16", 2**-15),
    ("CAF", "PCM_16", 2**-15),
    ("FLAC", "PCM_16", 2**-15),
    ("FLAC", "PCM_24", 2**-23),
]


@pytest.mark.parametrize("num_channels", [1, 2, 6])
@pytest.mark.parametrize("kind, subtype, step", LOSSLESS)
def test_lossless_formats_decode_to_the_same_samples(kind, subtype, step, num_channels):
    samples = sine(num_channels=num_channels)
    recording = decode(file_of(samples, 16_000, kind, subtype), "rain", OPTIONS)
    assert recording.rate_hz == 16_000
    assert recording.samples.dtype == np.float32
    assert recording.samples.shape == samples.shape
    assert np.abs(recording.samples - samples).max() <= step


@pytest.mark.parametrize("kind, subtype", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("WAV", "IMA_ADPCM")])
def test_lossy_formats_keep_duration_and_level(kind, subtype):
    recording = decode(file_of(sine(2, 48_000, 2), 48_000, kind, subtype), "rain", OPTIONS)
    assert recording.samples.shape[1] == 2
    assert recording.duration_s == pytest.approx(2, abs=0.05)
    assert level_dbfs(recording.samples[:, 0]) == pytest.approx(SINE_DBFS, abs=0.3)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_file_is_decoded_at_its_own_sample_rate(rate_hz):
    recording = decode(file_of(sine(2, rate_hz), rate_hz), "rain", OPTIONS)
    assert (recording.rate_hz, recording.duration_s) == (rate_hz, 2)


def test_a_wav_without_a_length_is_read_to_its_end():
    data = bytearray(file_of(sine()))
    for offset in (4, 40):
        data[offset : offset + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert decode(bytes(data), "rain", OPTIONS).duration_s == 0.5


def test_a_flac_without_a_length_is_read_to_its_end():
    data = with_flac_length(file_of(sine(20, 48_000), 48_000, "FLAC"), 0)
    assert decode(data, "rain", OPTIONS).duration_s == 20
    assert "too long" in rejection(data, AudioOptions(max_duration_s=19))


@pytest.mark.parametrize(
    "data, sentence",
    [
        (b"", "the file is empty (0 bytes)"),
        (b"<html><body>404 Not Found</body></html>" * 9, "not a sound file"),
        (b"hello", "not a sound file"),
        (bytes(5000), "not a sound file"),
        (b"\0\0\0\x20ftypM4A " + bytes(500), "MPEG-4 (m4a, mp4, AAC, ALAC) file"),
        (file_of(sine())[:20], "the file is damaged, cut short"),
        (file_of(sine()[:0]), "too short: 0 samples"),
        (file_of(sine()[:1]), "too short: 1 samples at 16000 Hz"),
        (file_of(sine()[:700]), "too short: 700 samples at 16000 Hz, less than 0.05 s"),
        (file_of(0 * sine()), "silent: the loudest part has -inf dBFS, below -60 dBFS"),
        (file_of(0.001 * sine()), "silent: the loudest part has -69 dBFS"),
        (file_of(0 * sine() + 0.25, subtype="FLOAT"), "silent"),
        (file_of(np.full_like(sine(), np.nan), subtype="FLOAT"), "NaN or infinite"),
        (file_of(np.append(sine(), np.inf), subtype="FLOAT"), "NaN or infinite"),
        (file_of(sine().astype(np.float64) * 1e300, subtype="DOUBLE"), "NaN or infinite"),
        (file_of(sine() * 30_000, subtype="FLOAT"), "the peak is 1.5e+04, full scale is 1"),
        (file_of(sine(), 1_000), "a sample rate of 1000 Hz is outside 4000 to 384000 Hz"),
        (file_of(sine(), 500_000), "a sample rate of 500000 Hz is outside 4000 to 384000 Hz"),
        (file_of(sine(num_channels=65)), "65 channels are more than 64"),
    ],
)
def test_an_unusable_file_is_rejected_with_its_reason(data, sentence):
    assert sentence in rejection(data)


def test_an_unsupported_codec_is_rejected():
    data = bytearray(file_of(sine(), subtype="ULAW"))
    data[20:22] = struct.pack("<H", 0x0161)  # Windows Media Audio
    assert "unsupported codec" in rejection(bytes(data))


@pytest.mark.parametrize(
    "kind, subtype",
    [
        ("WAV", "PCM_16"),
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
        ("AIFF", None),
        ("AU", None),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_truncated_file_is_rejected(kind, subtype, share):
    data = file_of(np.random.default_rng(0).normal(0, 0.1, 96_000), 48_000, kind, subtype)
    assert "cut short" in rejection(data[: round(len(data) * share)])


def test_a_few_missing_samples_at_the_end_are_accepted():
    assert decode(file_of(sine())[:-100], "rain", OPTIONS).duration_s == pytest.approx(0.5, abs=0.01)


@pytest.fixture
def no_decoding(monkeypatch) -> None:
    """Every attempt to decode a sample fails."""
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("samples were decoded"))


@pytest.mark.usefixtures("no_decoding")
def test_limits_are_checked_before_decoding():
    data = file_of(sine(), kind="FLAC")
    assert "too long: 0.5 s are more than 0.4 s" in rejection(data, AudioOptions(max_duration_s=0.4))
    assert "too large: 32000 decoded bytes are more than 31999" in rejection(
        data, AudioOptions(max_decoded_bytes=31_999)
    )


def test_a_click_in_silence_is_silence_and_a_bark_is_not():
    wave = np.zeros(10 * 16_000, np.float32)
    wave[80_000] = 0.02
    assert "silent" in rejection(file_of(wave))
    wave[80_000:84_000] = 0.1 * sine(0.25)[:, 0]
    assert len(decode(file_of(wave), "dog", OPTIONS).samples) == len(wave)


FUZZED = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "MS_ADPCM"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("W64", "PCM_16"),
]


@pytest.mark.parametrize("kind, subtype", FUZZED)
def test_a_damaged_file_is_decoded_or_rejected_and_nothing_else(kind, subtype):
    rng = np.random.default_rng(7)
    options = AudioOptions(max_decoded_bytes=2**24)
    whole = file_of(np.concatenate([sine(num_channels=2), rng.normal(0, 0.1, (4_000, 2))]), 16_000, kind, subtype)
    damaged = [whole[:length] for length in rng.integers(len(whole), size=50)]
    for i in range(150):
        flipped = bytearray(whole)
        for offset in rng.integers(len(whole) if i % 2 else 200, size=1 + i % 8):
            flipped[offset] = rng.integers(256)
        damaged.append(bytes(flipped))
    num_rejected = 0
    for data in damaged:
        try:
            recording = decode(data, "rain", options)
        except BadItem:
            num_rejected += 1
            continue
        assert recording.samples.dtype == np.float32
        assert np.isfinite(recording.samples).all()
        assert recording.duration_s >= options.min_duration_s
    assert num_rejected >= 30  # most of those cut short


@pytest.mark.skipif(not ESC10.is_dir(), reason="ESC-10 is not available")
def test_real_recordings_are_decoded_and_cut():
    for path in sorted(ESC10.rglob("*.ogg"))[::40]:
        recording = decode(path.read_bytes(), path.name, OPTIONS)
        assert (recording.rate_hz, recording.duration_s) == (44_100, pytest.approx(5, abs=0.1))
        wave = to_mono(recording.samples)
        assert windows(wave, recording.rate_hz, OPTIONS) == [Window(0.0, recording.duration_s)]
        assert len(fit_length(resample(wave, recording.rate_hz, 48_000), 480_000)) == 480_000


def test_channels_are_averaged():
    assert np.allclose(to_mono(np.array([[0.25, 0.75], [-1, 0]], np.float32)), [0.5, -0.5])


def test_channels_in_opposite_phase_do_not_cancel():
    loud, soft = sine(), 0.9999 * sine()
    assert np.array_equal(to_mono(np.hstack([-soft, loud])), loud[:, 0])


def test_resampling_keeps_length_level_and_tone():
    wave = sine(1, 44_100, freq_hz=1_000)[:, 0]
    resampled = resample(wave, 44_100, 48_000)
    assert resampled.dtype == np.float32
    assert len(resampled) == 48_000
    assert np.abs(resampled - sine(1, 48_000, freq_hz=1_000)[:, 0])[500:-500].max() < 1e-3
    assert np.array_equal(resampled, resample(wave, 44_100, 48_000))


def test_equal_rates_return_the_same_array():
    wave = sine()[:, 0]
    assert resample(wave, 16_000, 16_000) is wave


def test_levels_are_rms_without_the_dc_offset():
    assert level_dbfs(np.array([1, -1] * 100, np.float32)) == pytest.approx(0)
    assert level_dbfs(sine()[:, 0]) == pytest.approx(SINE_DBFS, abs=0.01)
    assert level_dbfs(sine()[:, 0] + np.float32(0.4)) == pytest.approx(SINE_DBFS, abs=0.01)
    assert level_dbfs(np.zeros(100, np.float32)) == level_dbfs(np.zeros(0, np.float32)) == -np.inf


def test_the_loudest_block_is_measured_at_any_position():
    wave = np.concatenate([np.zeros(48_000, np.float32), sine()[:, 0], np.zeros(48_123, np.float32)])
    assert loudest_dbfs(wave, 16_000) == pytest.approx(SINE_DBFS, abs=0.1)
    assert loudest_dbfs(np.zeros(0, np.float32), 16_000) == -np.inf


@pytest.mark.parametrize(
    "how, fitted",
    [("repeat", [1, 2, 3, 1, 2, 3, 1, 2]), ("repeatpad", [1, 2, 3, 1, 2, 3, 0, 0]), ("pad", [1, 2, 3, 0, 0, 0, 0, 0])],
)
def test_a_wave_is_padded_or_truncated(how, fitted):
    wave = np.array([1, 2, 3], np.float32)
    assert fit_length(wave, 8, how).tolist() == fitted
    assert fit_length(wave, 3, how).tolist() == [1, 2, 3]
    assert fit_length(wave, 2, how).tolist() == [1, 2]
    assert fit_length(wave, 8, how).dtype == np.float32


def test_an_empty_wave_cannot_be_padded():
    with pytest.raises(ValueError, match="empty"):
        fit_length(np.zeros(0, np.float32), 8)


@pytest.mark.parametrize(
    "changes", [{"min_window_s": 11}, {"min_rate_hz": 10**6}, {"min_duration_s": 1e4}, {"hop_s": 0}, {"window": 10}]
)
def test_contradictory_options_are_rejected(changes):
    with pytest.raises(ValidationError):
        AudioOptions(**changes)
