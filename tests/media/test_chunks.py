"""Sizes in the headers of WAV, RF64, W64, AIFF, CAF and AU files are corrected by what is there."""

import struct

import numpy as np
import pytest

from aai.errors import BadItem
from aai.media.audio import AudioOptions, Recording, decode
from aai.media.chunks import mend
from tests.media.sounds import file_of

RATE_HZ = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, (2 * RATE_HZ, 1)).astype(np.float32)
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"

FIELDS = {  # format of the field with the size of the sound, and its offset after the id
    "WAV": ("<I", b"data", 4),
    "WAVEX": ("<I", b"data", 4),
    "AIFF": (">I", b"SSND", 4),
    "CAF": (">Q", b"data", 4),
    "AU": (">I", b".snd", 8),
    "W64": ("<Q", W64_DATA, 16),
    "RF64": ("<Q", b"ds64", 16),
}
SUBTYPES = "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ALAW ULAW IMA_ADPCM MS_ADPCM GSM610".split()
OPTIONS = AudioOptions()


def read(data: bytes, options: AudioOptions = OPTIONS) -> Recording:
    return decode(data, "rain.wav", options)


def rejection(data: bytes, options: AudioOptions = OPTIONS) -> str:
    with pytest.raises(BadItem) as caught:
        read(data, options)
    assert caught.value.uri == "rain.wav"
    return caught.value.sentence


def with_size(data: bytes, size: int, kind: str = "WAV") -> bytes:
    """The same file, another size of the sound in its header."""
    form, name, offset = FIELDS[kind]
    at = data.index(name) + offset
    field = struct.pack(form, size % 256 ** struct.calcsize(form))
    return data[:at] + field + data[at + len(field) :]


def chunk(name: bytes, contents: bytes, is_padded: bool = True) -> bytes:
    return name + struct.pack("<I", len(contents)) + contents + b"\0" * (is_padded and len(contents) % 2)


def after_riff(data: bytes, added: bytes) -> bytes:
    return data[:12] + added + data[12:]


WAV = file_of(NOISE)


@pytest.mark.parametrize("size", [0, -1, 2**31 - 1, 0x7FFF_F000, 0x7F00_0008])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(subtype, size):
    data = file_of(NOISE, subtype=subtype)
    assert np.array_equal(read(with_size(data, size)).samples, read(data).samples)


@pytest.mark.parametrize("size", [0, -1, 2**63 - 1])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("kind", FIELDS)
def test_other_formats_that_were_written_to_a_pipe_are_read_to_their_end(kind, subtype, size):
    data = file_of(NOISE, kind=kind, subtype=subtype)
    assert np.array_equal(read(with_size(data, size, kind)).samples, NOISE) == (subtype == "FLOAT")
    assert np.array_equal(read(with_size(data, size, kind)).samples, read(data).samples)


def test_limits_hold_for_a_file_without_a_length():
    assert "too long: 2.0 s" in rejection(with_size(WAV, 0), AudioOptions(max_duration_s=1.9))
    assert "too large: 128000 decoded bytes" in rejection(with_size(WAV, -1), AudioOptions(max_decoded_bytes=127_999))


@pytest.mark.parametrize("size", [0, 1_000, 2**31 + 2**20])
def test_the_size_of_the_whole_file_does_not_matter(size):
    data = WAV[:4] + struct.pack("<I", size) + WAV[8:]
    assert np.array_equal(read(data).samples, read(WAV).samples)


def test_an_empty_wav_with_text_is_empty():
    assert "too short: 0 samples" in rejection(file_of(NOISE[:0]) + chunk(b"LIST", b"INFOISFT\4\0\0\0rain"))
    assert "too short: 0 samples" in rejection(file_of(NOISE[:0]))


@pytest.mark.parametrize(
    "data",
    [
        WAV + chunk(b"LIST", b"INFOISFT\4\0\0\0rain"),
        WAV + chunk(b"LIST", b"INFOISFT\5\0\0\0rain!") + chunk(b"id3 ", b"ID3\3\0\0\0\0\0\0"),
        WAV + b"ID3\3\0\0\0\0\x4e\x10" + bytes(range(250)) * 40 + b"TAG" + bytes(125),
        WAV + chunk(b"LIST", b"INFO" + b"rain" * 9_000)[:-9_000],
        WAV + bytes(5_000),
        WAV + b"end of the file\n",
        after_riff(WAV, chunk(b"JUNK", bytes(28)) + chunk(b"bext", b"\1" * 603)),
        after_riff(WAV, chunk(b"note", b"odd", is_padded=False)),
        after_riff(WAV, chunk(b"note", b"odd", is_padded=False) * 3 + chunk(b"note", b"odd")),
        with_size(WAV, 64_000 + 1_000),
    ],
    ids=[
        "text",
        "odd text",
        "tags",
        "cut text",
        "zeros",
        "a line",
        "before",
        "no padding",
        "some padding",
        "0.03 s too much",
    ],
)
def test_a_wav_is_read_whatever_is_around_its_sound(data):
    assert np.array_equal(read(data).samples, read(WAV).samples)


@pytest.mark.parametrize("kind", FIELDS)
def test_zeros_at_the_end_are_no_sound(kind):
    data = file_of(NOISE, kind=kind)
    assert np.array_equal(read(data + bytes(6_000)).samples, read(data).samples)


@pytest.mark.parametrize("kind", FIELDS)
def test_joined_files_are_rejected(kind):
    data = file_of(NOISE, kind=kind)
    sentence = rejection(data + data)
    assert "its header says 2.00 s, but bytes for 2." in sentence
    assert "split it if it is several files in one" in sentence


@pytest.mark.parametrize("size", [2, 1_000, 32_000])
def test_a_stale_size_is_rejected(size):
    assert "bytes for" in rejection(with_size(WAV, size)) and "ffmpeg -ignore_length" in rejection(with_size(WAV, size))


def test_a_second_sound_is_not_left_out():
    assert "but bytes for 2.00 s follow" in rejection(WAV + WAV[36:])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", FIELDS)
def test_a_truncated_file_is_rejected(kind, share):
    data = file_of(NOISE, kind=kind)
    sentence = rejection(data[: round(len(data) * share)])
    assert sentence.startswith("the file is cut short (its header says 2.00 s, it has ")


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_truncated_wav_of_any_codec_is_rejected(subtype):
    data = file_of(NOISE, subtype=subtype)
    assert "the file is cut short (its header says " in rejection(data[: len(data) // 2])


def test_a_truncated_wav_of_more_than_two_gigabytes_is_rejected():
    assert "the file is cut short (its header says 75497.47 s, it has 2.00 s)" in rejection(with_size(WAV, 0x9000_0000))


def test_a_file_that_ends_with_its_header_is_rejected():
    assert rejection(WAV[:44]) == "the file is cut short (it ends with its header): copy it again"


def test_an_mp3_in_a_wav_is_read_to_its_end():
    mp3 = file_of(NOISE, kind="MP3")
    form = struct.pack("<HHIIHH", 0x55, 1, RATE_HZ, 4_000, 1, 0) + bytes.fromhex("0c00010002000000900001007105")
    data = b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", form) + chunk(b"data", mp3)
    for size in (0, -1, len(mp3)):
        assert np.array_equal(read(with_size(data, size)).samples, read(mp3).samples)
    assert "cut short" in rejection(data[: len(data) // 2])


def test_a_nist_file_has_the_samples_that_its_header_counts():
    data = file_of(NOISE, kind="NIST")
    assert np.array_equal(read(data).samples, read(WAV).samples)
    assert "the file is cut short (its header says 2.00 s, it has 0.98 s)" in rejection(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["VOC", "SVX", "AVR"])
def test_a_file_whose_length_cannot_be_checked_is_rejected(kind):
    assert "files are not supported, since their length cannot be checked" in rejection(file_of(NOISE, kind=kind))


@pytest.mark.parametrize("kind", FIELDS)
def test_a_file_that_agrees_is_not_copied(kind):
    data = file_of(NOISE, kind=kind)
    assert mend(data, "rain.wav").data is data
