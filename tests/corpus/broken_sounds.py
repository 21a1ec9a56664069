"""Recordings that cannot be used, with a part of the sentence that says why."""

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from tests.corpus.cases import Broken
from tests.corpus.pictures import drawing, saved
from tests.corpus.waves import RATE_HZ, encoded, mp3, riff_chunk, tone, wav

_DAMAGED, _CUT, _NO_SOUND = "damaged", "cut short", "not a sound file"
_TEXT = b"Buy milk.\n" * 40
PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def _half(whole: Callable[[], bytes], *args: object, **how: object) -> Callable[[], bytes]:
    def data() -> bytes:
        found = whole(*args, **how)
        return found[: len(found) // 2]

    return data


def _form(rate_hz: int = RATE_HZ, channels: int = 1, code: int = 1, bits: int = 16, align: int | None = None) -> bytes:
    """A WAV file with this `fmt ` chunk, right or wrong, over one second of 16-bit mono."""
    data = (tone(length_s=1.0) * 32_767).astype("<i2").tobytes()
    block = channels * bits // 8 if align is None else align
    form = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * block & 0xFFFFFFFF, block, bits)
    body = b"WAVE" + riff_chunk(b"fmt ", form) + riff_chunk(b"data", data)
    return riff_chunk(b"RIFF", body)


def _floats(value: float) -> bytes:
    """A WAV file of floats, one of which has this value."""
    wave = tone(length_s=1.0)
    wave[9_000] = value
    return encoded("WAV", "FLOAT", lambda: wave)


def _level(level: float, value: float = 0.0) -> Callable[[], bytes]:
    return partial(encoded, "WAV", "FLOAT", lambda: tone(length_s=1.0) * np.float32(level) + np.float32(value))


def _ten_hours() -> bytes:
    """A FLAC file whose header says that it is ten hours long."""
    data = bytearray(encoded("FLAC"))
    data[22:26] = struct.pack(">I", 36_000 * RATE_HZ & 0xFFFFFFFF)  # the lower 32 of 36 bits of STREAMINFO
    return bytes(data)


def _flipped_flac() -> bytes:
    data = bytearray(encoded("FLAC", wave=partial(tone, length_s=2.0)))
    data[len(data) // 2 :][:40] = bytes(40)
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x5A
    return bytes(data)


def _noise() -> bytes:
    return np.random.default_rng(5).bytes(5_000).replace(b"\xff", b"\0")


BROKEN_SOUNDS: tuple[Broken, ...] = (
    # nothing, or something else
    Broken("zero-bytes.wav", lambda: b"", "empty"),
    Broken("text.wav", lambda: _TEXT, _NO_SOUND),
    Broken("page.mp3", lambda: PAGE, _NO_SOUND),
    Broken("picture.wav", partial(saved, "PNG", drawing), _NO_SOUND),
    Broken("random.mp3", _noise, _NO_SOUND),
    Broken("zeros.wav", lambda: bytes(40_000), _NO_SOUND),
    Broken("zeros.mp3", lambda: bytes(40_000), _NO_SOUND),
    Broken("one-byte.ogg", lambda: b"O", _NO_SOUND),
    Broken("playlist.mp3", lambda: b"#EXTM3U\n#EXTINF:123,Rain\nrain.mp3\n", _NO_SOUND),
    Broken("notes.wav", lambda: b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + bytes(60), "MIDI"),
    Broken("packed.wav", lambda: b"PK\3\4" + bytes(400), _NO_SOUND),
    Broken("phone.m4a", lambda: b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(400), "MPEG-4"),
    Broken("movie.webm", lambda: b"\x1a\x45\xdf\xa3" + bytes(400), "WebM"),
    Broken("windows.wma", lambda: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(400), "Windows Media"),
    # cut short or damaged
    Broken("cut.wav", _half(encoded, "WAV"), _CUT),
    Broken("cut.rf64", _half(encoded, "RF64"), _CUT),
    Broken("cut.w64", _half(encoded, "W64"), _CUT),
    Broken("cut.aiff", _half(encoded, "AIFF", "PCM_16"), _CUT),
    Broken("cut.au", _half(encoded, "AU", "PCM_16"), _CUT),
    Broken("cut.caf", _half(encoded, "CAF", "PCM_16"), _CUT),
    Broken("cut.flac", _half(encoded, "FLAC"), _CUT),
    Broken("cut.ogg", _half(encoded, "OGG"), _CUT),
    Broken("cut.opus", _half(encoded, "OGG", "OPUS"), _CUT),
    Broken("cut.mp3", _half(mp3, partial(tone, length_s=2.0)), _CUT),
    Broken("cut-in-header.wav", lambda: wav()[:30], _DAMAGED),
    Broken("cut-in-header.flac", lambda: encoded("FLAC")[:30], _DAMAGED),
    Broken("cut-in-header.ogg", lambda: encoded("OGG")[:90], _CUT),
    Broken("flipped.flac", _flipped_flac, _DAMAGED),
    Broken("claims-a-gigabyte.wav", partial(wav, sizes=(2**30 + 36, 2**30)), _CUT),
    Broken("no-samples-chunk.wav", lambda: wav()[:36], _DAMAGED),
    # headers that cannot be
    Broken("slow.wav", partial(_form, 1), "sample rate of 1 Hz"),
    Broken("fast.wav", partial(_form, 2_000_000_000), "sample rate of 2000000000 Hz"),
    Broken("no-rate.wav", partial(_form, 0), _DAMAGED),
    Broken("no-channels.wav", partial(_form, channels=0), _DAMAGED),
    Broken("many-channels.wav", partial(_form, channels=500), "channels"),
    Broken("unknown-codec.wav", partial(_form, code=0xF00D), "unsupported codec"),
    Broken("no-bits.wav", partial(_form, bits=0, align=2), _DAMAGED),
    Broken("no-block.wav", partial(_form, code=0x11, bits=4, align=0), _DAMAGED),
    Broken("ten-hours.flac", _ten_hours, "36000"),
    # samples that cannot be used
    Broken("one-sample.wav", partial(encoded, "WAV", wave=lambda: tone()[1:2]), "too short"),
    Broken("no-samples.wav", partial(encoded, "WAV", wave=lambda: tone()[:0]), "too short"),
    Broken("nan.wav", partial(_floats, np.nan), "NaN or infinite"),
    Broken("infinite.wav", partial(_floats, np.inf), "NaN or infinite"),
    Broken("minus-infinite.wav", partial(_floats, -np.inf), "NaN or infinite"),
    Broken("unscaled.wav", _level(30_000), "full scale"),
    Broken("silent.wav", _level(0), "silent"),
    Broken("almost-silent.wav", _level(1e-4), "silent"),
    Broken("constant.wav", _level(0, 0.5), "silent"),
    Broken("silent-stereo.flac", partial(encoded, "FLAC", wave=lambda: tone(channels=2) * 0), "silent"),
)
