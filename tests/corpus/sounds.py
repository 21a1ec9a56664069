"""Well-formed recordings of every kind that libsndfile reads, ordinary and odd.

They are compared with the waves from which they were encoded. The maximum errors are those of the codecs: half a step
of 8, 16 or 24 bits, logarithmic steps, or what a psychoacoustic encoder loses of a sine.
"""

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from tests.corpus.cases import Sound
from tests.corpus.waves import RATE_HZ, encoded, growing, id3, mp3, offset, opposite, riff_chunk, tone, wav

EXACT, BITS_24, BITS_16, BITS_8 = 1e-7, 1e-6, 2e-4, 0.03
LOGARITHMIC, ADPCM, LOSSY, SPEECH = 0.02, 0.1, 0.15, 0.25
_BLOCK_S = 0.07  # a block of an ADPCM codec
_PADDING_S = 0.15  # encoder delay and padding of MP3

_ERRORS = {
    "PCM_S8": BITS_8,
    "PCM_U8": BITS_8,
    "PCM_16": BITS_16,
    "PCM_24": BITS_24,
    "PCM_32": EXACT,
    "FLOAT": EXACT,
    "DOUBLE": EXACT,
    "ULAW": LOGARITHMIC,
    "ALAW": LOGARITHMIC,
    "ALAC_16": BITS_16,
    "ALAC_20": 2e-5,
    "ALAC_24": BITS_24,
    "ALAC_32": EXACT,
    "IMA_ADPCM": ADPCM,
    "MS_ADPCM": ADPCM,
    "G721_32": ADPCM,
    "G723_24": ADPCM,
    "G723_40": ADPCM,
    "NMS_ADPCM_16": ADPCM,
    "NMS_ADPCM_24": ADPCM,
    "NMS_ADPCM_32": ADPCM,
    "GSM610": SPEECH,
}
_PCM = "PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW"
_KINDS = {
    "WAV": ("wav", f"PCM_U8 {_PCM} IMA_ADPCM MS_ADPCM G721_32 NMS_ADPCM_16 NMS_ADPCM_24 NMS_ADPCM_32 GSM610"),
    "WAVEX": ("extensible.wav", f"PCM_U8 {_PCM}"),
    "RF64": ("rf64", "PCM_16 PCM_24 FLOAT"),
    "W64": ("w64", "PCM_16 PCM_24 FLOAT MS_ADPCM"),
    "AIFF": ("aiff", f"PCM_S8 PCM_U8 {_PCM} IMA_ADPCM"),
    "AU": ("au", f"PCM_S8 {_PCM} G721_32 G723_24 G723_40"),
    "CAF": ("caf", "PCM_S8 PCM_16 PCM_24 FLOAT ULAW ALAW ALAC_16 ALAC_20 ALAC_24 ALAC_32"),
    "FLAC": ("flac", "PCM_S8 PCM_16 PCM_24"),
}
_TELEPHONE = ("GSM610", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32")
_IN_BLOCKS = ("IMA_ADPCM", "MS_ADPCM", "G721_32", "G723_24", "G723_40")


def _of_kind(kind: str, suffix: str, subtype: str) -> Sound:
    rate_hz = 8_000 if subtype in _TELEPHONE else RATE_HZ
    wave = partial(tone, rate_hz)
    surplus_s = _BLOCK_S if subtype in _IN_BLOCKS else 0.0
    data = partial(encoded, kind, subtype, wave, rate_hz)
    return Sound(f"{kind.lower()}-{subtype.lower()}.{suffix}", data, wave, rate_hz, _ERRORS[subtype], surplus_s)


def _flac(rate_hz: int = RATE_HZ, channels: int = 1) -> Sound:
    wave = partial(tone, rate_hz, channels)
    return Sound(
        f"{rate_hz}-hz-{channels}.flac", partial(encoded, "FLAC", "PCM_16", wave, rate_hz), wave, rate_hz, BITS_16
    )


def _one(
    name: str,
    data: Callable[[], bytes],
    wave: Callable[[], np.ndarray] = tone,
    error: float = BITS_16,
    surplus_s: float = 0.0,
) -> Sound:
    return Sound(name, data, wave, RATE_HZ, error, surplus_s)


def _with_unknown_length() -> bytes:
    """A FLAC file whose encoder did not know how long it would become."""
    data = bytearray(encoded("FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the lower 36 bits there are the number of samples
    return bytes(data)


def _two(kind: str, channels: int = 1) -> bytes:
    """Two files of Ogg, one after the other, as internet radio sends them."""
    return b"".join(encoded(kind, wave=partial(tone, channels=channels, first_hz=hz)) for hz in (440, 660))


def _two_tones() -> np.ndarray:
    return np.concatenate([tone(first_hz=440), tone(first_hz=660)])


def _au_of_unknown_length() -> bytes:
    data = encoded("AU", "PCM_16")
    return data[:8] + b"\xff\xff\xff\xff" + data[12:]


_TITLE = id3((b"TIT2", b"\0rain"))
_COVER = id3((b"APIC", b"\0image/jpeg\0\3\0" + b"\xff\xd8\xff\xe0" + bytes(range(256)) * 80))
_ID3_V1 = b"TAG" + b"rain".ljust(125, b"\0")
_APE = b"APETAGEX" + struct.pack("<IIII", 2_000, 32, 0, 0) + bytes(8)
_LIST = riff_chunk(b"LIST", b"INFO" + riff_chunk(b"INAM", b"heavy rain\0"))
_BEXT = riff_chunk(b"bext", b"a field recording".ljust(602, b"\0"))
_ODD_CHUNK = riff_chunk(b"junk", b"odd")
_CUE = riff_chunk(b"cue ", struct.pack("<I", 0))
_PIPE = 0xFFFFFFFF

SOUNDS: tuple[Sound, ...] = (
    *(_of_kind(kind, suffix, subtype) for kind, (suffix, names) in _KINDS.items() for subtype in names.split()),
    *(_flac(rate_hz) for rate_hz in (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)),
    *(_flac(channels=channels) for channels in (2, 6, 8)),
    _one("opposite.wav", partial(encoded, "WAV", "PCM_16", opposite), opposite),
    _one("offset.wav", partial(encoded, "WAV", "PCM_16", offset), offset),
    _one("surround.wav", partial(encoded, "WAVEX", "PCM_24", partial(tone, channels=6)), partial(tone, channels=6)),
    _one("little-endian.aiff", partial(encoded, "AIFF", "PCM_16", endian="LITTLE")),
    _one("little-endian.au", partial(encoded, "AU", "PCM_16", endian="LITTLE")),
    _one("big-endian.wav", partial(encoded, "WAV", "PCM_16", endian="BIG")),
    _one("tags.wav", partial(wav, before=(_LIST, _BEXT, _ODD_CHUNK))),
    _one("tags-after.wav", partial(wav, after=(_ODD_CHUNK, _LIST, _CUE))),
    _one("zeros-after.wav", lambda: wav() + bytes(4_000)),
    _one("pipe-zeros.wav", partial(wav, sizes=(0, 0))),
    _one("pipe-ones.wav", partial(wav, sizes=(_PIPE, _PIPE))),
    _one("pipe-sox.wav", partial(wav, sizes=(0x7FFFFFFF, 0x7FFFFFDB))),
    _one("pipe-header-only.wav", partial(wav, sizes=(36, 0))),
    _one("pipe.au", _au_of_unknown_length),
    _one("unknown-length.flac", _with_unknown_length),
    _one("tagged.flac", lambda: _TITLE + encoded("FLAC")),
    _one("vorbis.ogg", partial(encoded, "OGG", "VORBIS"), error=LOSSY),
    _one("vorbis-stereo.oga", partial(encoded, "OGG", "VORBIS", partial(tone, channels=2)),
           partial(tone, channels=2), LOSSY),
    _one("opus.opus", partial(encoded, "OGG", "OPUS"), error=LOSSY),
    _one("opus-stereo.ogg", partial(encoded, "OGG", "OPUS", partial(tone, channels=2)),
           partial(tone, channels=2), LOSSY),
    _one("chained.ogg", partial(_two, "OGG"), _two_tones, LOSSY),
    _one("constant.mp3", mp3, error=LOSSY, surplus_s=_PADDING_S),
    _one("constant-bare.mp3", partial(mp3, has_header=False), error=LOSSY, surplus_s=_PADDING_S),
    _one("variable.mp3", partial(mp3, mode="VARIABLE"), error=LOSSY, surplus_s=_PADDING_S),
    _one("average.mp3", partial(mp3, mode="AVERAGE"), error=LOSSY, surplus_s=_PADDING_S),
    _one("growing.mp3", partial(mp3, growing, "VARIABLE"), growing, LOSSY, _PADDING_S),
    _one("growing-bare.mp3", partial(mp3, growing, "VARIABLE", has_header=False), growing, LOSSY, _PADDING_S),
    _one("stereo.mp3", partial(mp3, partial(tone, channels=2)), partial(tone, channels=2), LOSSY, _PADDING_S),
    _one("title.mp3", lambda: _TITLE + mp3() + _ID3_V1, error=LOSSY, surplus_s=_PADDING_S),
    _one("cover.mp3", lambda: _COVER + mp3(), error=LOSSY, surplus_s=_PADDING_S),
    _one("cover-bare.mp3", lambda: _COVER + mp3(has_header=False), error=LOSSY, surplus_s=_PADDING_S),
    _one("two-tags.mp3", lambda: _TITLE + _COVER + mp3() + _APE + _ID3_V1, error=LOSSY, surplus_s=_PADDING_S),
)  # fmt: skip

SOUND_FORMATS: tuple[Sound, ...] = tuple(
    Sound(f"{kind.lower()}.{kind.lower()}", partial(encoded, kind, subtype), tone, RATE_HZ, _ERRORS[subtype])
    for kind, subtype in (
        ("AVR", "PCM_16"),
        ("HTK", "PCM_16"),
        ("SVX", "PCM_16"),
        ("MAT4", "FLOAT"),
        ("MAT5", "FLOAT"),
        ("MPC2K", "PCM_16"),
        ("PAF", "PCM_16"),
        ("PVF", "PCM_16"),
        ("IRCAM", "FLOAT"),
        ("VOC", "PCM_16"),
        ("NIST", "PCM_16"),
    )
)
"""Formats that have gone out of use: the decoder reads them, but no collection is searched for their names."""
