"""Sound files are read to their real end, whatever their headers say; or rejected with the true reason."""

import io
import struct

import numpy as np
import pytest
import soundfile

from aai.errors import BadItem
from aai.media import flac, ogg
from aai.media.audio import AudioOptions, Recording, decode, level_dbfs
from tests.media.sounds import file_of, with_flac_length

RATE_HZ = 16_000
OPTIONS = AudioOptions()


def read(data: bytes, options: AudioOptions = OPTIONS) -> Recording:
    return decode(data, "sounds/rain.mp3", options)


def rejection(data: bytes, options: AudioOptions = OPTIONS) -> str:
    with pytest.raises(BadItem) as caught:
        read(data, options)
    assert caught.value.uri == "sounds/rain.mp3"
    return caught.value.sentence


def noise(duration_s: float, num_channels: int = 1, rate_hz: int = RATE_HZ) -> np.ndarray:
    shape = (round(duration_s * rate_hz), num_channels)
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


# MP3

SWELL = np.concatenate(
    [0.001 * noise(1), noise(1), 0.01 * noise(1)]
)  # small, large and medium frames at a variable rate


def mp3(samples: np.ndarray = SWELL, rate_hz: int = RATE_HZ, mode: str = "VARIABLE") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="MP3", bitrate_mode=mode, compression_level=0.5)
    return file.getvalue()


def without_info(data: bytes) -> bytes:
    """Without the first frame, in which the encoder counts the others."""
    assert b"Xing" in data[:60] or b"Info" in data[:60]
    return data[data.find(data[:2], 60) :]


def id3(num_bytes: int) -> bytes:
    size = bytes(num_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    picture = np.random.default_rng(1).integers(0, 256, num_bytes, np.uint8).tobytes()
    return b"ID3\x03\x00\x00" + size + picture


def ape() -> bytes:
    item = struct.pack("<II", 4, 0) + b"Title\0rain"
    head, foot = (
        b"APETAGEX" + struct.pack("<IIIIQ", 2000, len(item) + 32, 1, flags, 0) for flags in (5 << 29, 1 << 31)
    )
    return head + item + foot


ID3V1 = b"TAG" + bytes(125)
VBR, CBR = without_info(mp3()), without_info(mp3(mode="CONSTANT"))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_an_mp3_with_a_variable_bit_rate_and_no_length_is_read_to_its_end(rate_hz, num_channels):
    samples = np.concatenate([0.001 * noise(1, num_channels, rate_hz), noise(1, num_channels, rate_hz)])
    recording = read(without_info(mp3(samples, rate_hz)))
    assert recording.samples.shape[1] == num_channels
    assert recording.duration_s == pytest.approx(2, abs=0.2)
    loud = recording.samples[round(1.2 * rate_hz) : round(1.8 * rate_hz), 0]
    assert level_dbfs(loud) == pytest.approx(-20, abs=3)


@pytest.mark.parametrize("stream", [VBR, CBR], ids=["VBR", "CBR"])
@pytest.mark.parametrize(
    "before, after",
    [
        (id3(300_000), b""),
        (id3(1_000) + id3(1_000), b""),
        (b"", ID3V1),
        (b"", ape() + ID3V1),
        (b"", b"LYRICSBEGIN" + b"la " * 3_000 + b"009011LYRICS200"),
        (bytes(1_000), b""),
        (id3(100)[:-50] + b"\xff\xd8\xff\xe0" * 500, b""),
        (b"", bytes(1_000)),
    ],
    ids=["cover", "two tags", "ID3v1", "APE", "lyrics", "zeros before", "a tag with a wrong size", "zeros after"],
)
def test_an_mp3_is_read_whatever_is_before_and_after_it(stream, before, after):
    assert np.array_equal(read(before + stream + after).samples, read(stream).samples)


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT", "AVERAGE"])
def test_an_ordinary_mp3_is_decoded_as_libsndfile_does(mode):
    data = mp3(mode=mode)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert len(expected) == len(SWELL)
    assert np.allclose(read(data).samples, expected, rtol=0, atol=1e-6)


def test_a_constant_rate_without_a_length_gives_the_samples_that_it_always_gave():
    expected, _ = soundfile.read(io.BytesIO(CBR), dtype="float32", always_2d=True)
    assert np.allclose(read(CBR).samples, expected, rtol=0, atol=1e-6)


def test_free_format_is_read_to_its_end():
    assert read(FREE_FORMAT).duration_s == pytest.approx(3, abs=0.2)


def as_free_format(data: bytes) -> bytes:
    """The same frames with a bit rate of 0 in their headers; at 16 kHz all have one size."""
    frames, size = bytearray(data), data.find(data[:2], 4)
    for at in range(0, len(data), size):
        frames[at + 2] &= 0x0F
    return bytes(frames)


FREE_FORMAT = as_free_format(CBR)


def with_count(data: bytes, num_frames: int) -> bytes:
    at = data.index(b"Xing") + 8
    return data[:at] + struct.pack(">I", num_frames) + data[at + 4 :]


def test_a_wrong_count_of_frames_does_not_shorten_an_mp3():
    num_frames = struct.unpack_from(">I", mp3(), mp3().index(b"Xing") + 8)[0]
    assert np.array_equal(read(with_count(mp3(), 9)).samples, read(VBR).samples)
    assert np.array_equal(read(with_count(mp3(), num_frames - 1)).samples, read(VBR).samples)
    assert np.array_equal(read(mp3().replace(b"Xing\0\0\0\x0f", b"Xing\0\0\0\x0e")).samples, read(VBR).samples)
    assert "its header says 7.20 s, it has 3.1" in rejection(with_count(mp3(), 200))


def test_a_frame_of_the_fraunhofer_encoder_that_counts_the_others_is_no_sound():
    first = bytearray(mp3()[: mp3().find(mp3()[:2], 60)])
    first[4:] = (bytes(32) + b"VBRI\0\1").ljust(len(first) - 4, b"\0")
    assert np.array_equal(read(bytes(first) + VBR).samples, read(VBR).samples)


def test_joined_mp3_files_are_one_recording():
    whole = mp3()
    assert read(whole + whole).duration_s == 2 * read(whole).duration_s
    assert read(VBR + ID3V1 + id3(500) + VBR).duration_s == pytest.approx(2 * read(VBR).duration_s, abs=0.05)
    assert np.array_equal(read(whole + id3(9) + whole).samples[: len(SWELL)], read(whole).samples)


@pytest.mark.parametrize(
    "second, kinds",
    [
        (mp3(noise(1, 2)), "16000 Hz, 1 channel(s) and 16000 Hz, 2 channel(s)"),
        (mp3(noise(1, 1, 8_000), 8_000), "16000 Hz, 1 channel(s) and 8000 Hz, 1 channel(s)"),
    ],
)
@pytest.mark.parametrize("is_counted", [True, False])
def test_an_mp3_that_changes_its_channels_or_rate_is_rejected(second, kinds, is_counted):
    second = second if is_counted else without_info(second)
    assert rejection(CBR + second) == f"it is several files in one, which differ ({kinds}): split it"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("stream", [VBR, CBR, FREE_FORMAT, mp3()], ids=["VBR", "CBR", "free", "counted"])
def test_a_truncated_mp3_is_rejected(stream, share):
    data = stream[: round(len(stream) * share)]
    data = data[:-7] if len(data) % stream.find(stream[:2], 4) == 0 else data
    assert "the file is cut short (it" in rejection(data)
    assert "the file is cut short (it" in rejection(id3(9_000) + data)


def test_an_mp3_with_a_hole_is_rejected():
    half = len(CBR) // 2
    sentence = rejection(CBR[:half] + bytes(3_000) + CBR[half + 3_000 :])
    assert "the file is damaged or cut short (after 1.5" in sentence and "bytes that are no MP3 frames" in sentence


def test_a_file_that_ends_within_its_tag_is_cut_short():
    assert rejection(id3(9_000)[:5_000]) == "the file is cut short (it ends with its ID3 tag): copy it again"


def test_a_text_that_begins_like_an_mp3_frame_is_none():
    assert "not a sound file" in rejection("rain\n".encode("utf-16") * 1_000)


# Ogg


def pages(data: bytes) -> list[bytes]:
    return [b"OggS" + page for page in data.split(b"OggS")[1:]]


def with_checksum(page: bytes) -> bytes:
    return page[:22] + struct.pack("<I", ogg.checksum(page)) + page[26:]


def in_ogg(data: bytes, num_bytes: int = 4_000) -> bytes:
    """A FLAC file as an Ogg stream, the rest of it in pages of some thousand bytes."""
    rest = data[42:]
    bodies = [
        b"\x7fFLAC\x01\x00\x00\x01" + data[:42],
        *(rest[i : i + num_bytes] for i in range(0, len(rest), num_bytes)),
    ]
    made = []
    for i, body in enumerate(bodies):
        flags = 2 if i == 0 else 4 if i == len(bodies) - 1 else 0
        lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, min(i, 1) * 4096 * i, 7, i, 0, len(lacing))
        made.append(with_checksum(head + lacing + body))
    return b"".join(made)


OGG = {name: file_of(noise(3, rate_hz=48_000), 48_000, "OGG", name) for name in ("VORBIS", "OPUS")}
OGG["FLAC"] = in_ogg(file_of(noise(3), RATE_HZ, "FLAC"))


@pytest.mark.parametrize("name", OGG)
def test_joined_ogg_files_are_one_recording(name):
    one, two = read(OGG[name]), read(OGG[name] * 2)
    assert one.duration_s == 3
    assert np.array_equal(two.samples, np.concatenate([one.samples, one.samples]))
    assert "too long: 9.0 s" in rejection(OGG[name] * 3, AudioOptions(max_duration_s=8))


def test_flac_in_ogg_gives_the_samples_of_flac():
    assert np.array_equal(read(OGG["FLAC"]).samples, read(file_of(noise(3), RATE_HZ, "FLAC")).samples)


@pytest.mark.parametrize("name", ["VORBIS", "OPUS"])
def test_joined_ogg_files_with_other_channels_are_rejected(name):
    stereo = file_of(noise(1, 2, 48_000), 48_000, "OGG", name)
    assert "several files in one, which differ (48000 Hz, 1 channel(s) and" in rejection(OGG[name] + stereo)


@pytest.mark.parametrize("name", OGG)
def test_an_incomplete_ogg_file_is_rejected(name):
    whole, parts = OGG[name], pages(OGG[name])
    assert "cut short (it ends within an Ogg page)" in rejection(whole[:-100])
    assert "cut short (it ends within an Ogg page)" in rejection(whole + whole[:-100])
    assert "cut short (it ends within an Ogg page)" in rejection(whole[:20])
    assert "cut short (its last Ogg page is not marked as the end)" in rejection(b"".join(parts[:-1]))
    assert "damaged (Ogg pages are missing before byte" in rejection(b"".join(parts[:-3] + parts[-2:]))
    flipped = bytearray(whole)
    flipped[-50] ^= 1
    assert "damaged (the Ogg page at byte" in rejection(bytes(flipped))


@pytest.mark.parametrize("name", OGG)
def test_what_follows_a_whole_ogg_file_is_ignored(name):
    assert read(OGG[name] + bytes(5_000)).duration_s == 3


@pytest.mark.parametrize("name", ["VORBIS", "OPUS"])
def test_an_ogg_stream_that_was_recorded_from_its_middle_is_whole(name):
    later = []
    for page in pages(OGG[name]):
        position = struct.unpack_from("<q", page, 6)[0]
        shifted = position + 10**9 if position > 0 else position
        later.append(with_checksum(page[:6] + struct.pack("<q", shifted) + page[14:]))
    assert read(b"".join(later)).duration_s == pytest.approx(3, abs=0.1)


def first_page(body: bytes, serial: int = 8) -> bytes:
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, serial, 0, 0, 1)
    return with_checksum(head + bytes([len(body)]) + body)


def test_sound_beside_video_is_read():
    video = first_page(b"\x80theora" + bytes(35))
    assert np.array_equal(read(video + OGG["VORBIS"]).samples, read(OGG["VORBIS"]).samples)


@pytest.mark.parametrize(
    "data, sentence",
    [
        (first_page(b"Speex   1.2" + bytes(70)), "Ogg Speex files are not supported: convert it to FLAC or WAV"),
        (first_page(b"\x80theora" + bytes(35)), "Ogg Theora (video) files are not supported"),
        (first_page(b"OpusHead" + bytes(11)) + OGG["VORBIS"], "it has 2 sound streams at once"),
    ],
)
def test_an_ogg_file_without_one_readable_sound_is_rejected(data, sentence):
    assert sentence in rejection(data)


def test_the_checksum_is_that_of_the_encoder():
    for page in pages(OGG["OPUS"]):
        assert ogg.checksum(page) == struct.unpack_from("<I", page, 22)[0]


# FLAC

FLAC = file_of(noise(2), RATE_HZ, "FLAC")


@pytest.mark.parametrize("num_frames", [0, 1_000, 32_000])
def test_a_flac_is_read_to_its_end_whatever_its_header_says(num_frames):
    data = with_flac_length(FLAC, num_frames)
    for after in (b"", ID3V1, bytes(5_000)):
        assert np.array_equal(read(id3(1_000) + data + after).samples, read(FLAC).samples)


@pytest.mark.parametrize("silence_s", [0.01, 0.3, 1])
def test_a_flac_that_ends_in_silence_is_whole(silence_s):
    samples = np.append(noise(1), np.zeros((round(silence_s * RATE_HZ), 1), np.float32), axis=0)
    for num_frames in (0, 1_000, len(samples)):
        assert len(read(with_flac_length(file_of(samples, RATE_HZ, "FLAC"), num_frames)).samples) == len(samples)


def test_a_stream_whose_length_is_found_nowhere_is_read_in_blocks(monkeypatch):
    monkeypatch.setattr(flac, "_ends", lambda data: iter(()))
    samples = noise(20, 1, 48_000)
    data = with_flac_length(file_of(samples, 48_000, "FLAC"), 0)
    assert len(read(data).samples) == len(samples)
    assert "too long: 1" in rejection(data, AudioOptions(max_duration_s=9))
    assert "too large: 2" in rejection(data, AudioOptions(max_decoded_bytes=2_000_000))


def test_joined_flac_files_are_one_recording():
    assert read(FLAC + with_flac_length(FLAC, 0) + FLAC).duration_s == 6


def test_a_wrong_digest_of_a_flac_does_not_matter_if_its_frames_are_whole():
    assert read(FLAC[:26] + bytes(range(16)) + FLAC[42:]).duration_s == 2


@pytest.mark.parametrize("num_frames", [0, 32_000])
def test_an_incomplete_flac_is_rejected(num_frames):
    data, half = with_flac_length(FLAC, num_frames), len(FLAC) // 2
    assert "cut short" in rejection(data[:half])
    assert "damaged" in rejection(data[:half] + bytes(100) + data[half + 100 :])
    assert "damaged" in rejection(data[:half] + data[half + 9_000 :])


@pytest.mark.parametrize("blocks", [[4_096] * 9, [192, 576, 4_608, 8, 257, 4_096]])
def test_flac_frames_of_every_size_are_counted(blocks):
    """The last frame has a size of its own, coded in one byte, in two, or as a power of two."""
    for rest in blocks:
        samples = noise(1)[: 2 * 4_096 + rest]
        data = with_flac_length(file_of(samples, RATE_HZ, "FLAC"), 4_096)
        assert len(read(data).samples) == len(samples)
