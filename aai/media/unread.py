"""Formats that are recognised and not read, so that a reject gives the true reason."""

import os

_IMAGES: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypheix", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypmsf1", "a HEIF image"),
    (4, b"ftypcrx", "a camera raw file (Canon CR3)"),
    *((4, b"ftyp" + brand, "a video file") for brand in (b"isom", b"mp4", b"M4V", b"qt", b"3gp", b"avc1")),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL \r\n\x87\n", "a JPEG XL image"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS image"),
    (12, b"CgBI", "a PNG image compressed for iOS"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"gimp xcf", "a GIMP file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"\0\0\2\0", "a cursor"),
    (0, b"icns", "an icon"),
    (0, b"qoif", "a QOI image"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"AT&TFORM", "a DjVu file"),
    (8, b"CR\x02", "a camera raw file (Canon CR2)"),
    (0, b"FUJIFILMCCD-RAW", "a camera raw file"),
    (0, b"IIU\0", "a camera raw file"),
    (0, b"IIR", "a camera raw file"),
    (0, b"MMOR", "a camera raw file"),
    (0, b"FOVb", "a camera raw file"),
    (0, b"MM\0+", "a BigTIFF image with the high byte first"),
    *((0, b"P%d" % number + space, "a netpbm image") for number in range(1, 8) for space in (b"\n", b" ", b"\r")),
)
"""Offset, magic bytes and name; the first that fits counts."""

_SOUNDS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "MPEG-4 (m4a, mp4, AAC, ALAC)"),
    (0, b"\x30\x26\xb2\x75", "Windows Media (wma)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    *((0, b"\xff" + second, "AAC (ADTS)") for second in (b"\xf0", b"\xf1", b"\xf8", b"\xf9")),
    (0, b"ADIF", "AAC (ADIF)"),
    (28, b"\x7fFLAC", "Ogg FLAC"),
    (0, b"MThd", "MIDI (notes without sound)"),
    (8, b"RMID", "MIDI (notes without sound)"),
    (0, b"#!AMR", "AMR"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b".RMF", "RealAudio"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA", "True Audio"),
    (0, b"tBaK", "TAK"),
    (0, b"OFR ", "OptimFROG"),
    (0, b"ajkg", "Shorten"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD (DSDIFF)"),
    (0, b"MP+", "Musepack"),
    (0, b"MPCK", "Musepack 8"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (4, b"\xf8\x72\x6f", "Dolby TrueHD"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\1", "Flash video"),
    (0, b"\0\0\1\xba", "MPEG video"),
)

_AC3, _E_AC3, _MAX_AC3_VERSION = "AC-3", "E-AC-3", 10
_TS_SYNC, _TS_PACKET_BYTES, _TS_NAME = b"G", 188, "MPEG transport stream"

_RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .crw .dcr .dng .erf .iiq .kdc .mrw .nef .nrw .orf .pef .raw .rwl .sr2 .srf .srw".split()
)
_TIFF = (b"II", b"MM")
_TEXT_START = 4096
_AVIF = b"avif"


def unread_image(data: bytes, uri: str) -> str | None:
    """The name of an image format that is not read; none if it is read, or not recognised."""
    is_raw = os.path.splitext(uri)[1].lower() in _RAW_SUFFIXES
    if is_raw and data.startswith(_TIFF):  # its first image would be a preview
        return "a camera raw file"
    start = data[:_TEXT_START]
    if b"<svg" in start and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "an SVG drawing"
    if _AVIF in _brands(data):
        return None
    return _name_of(data, _IMAGES)


def unread_sound(data: bytes) -> str | None:
    """The name of a sound format that libsndfile does not read; none if it is not recognised."""
    name = _name_of(data, _SOUNDS)
    if name == _AC3 and len(data) > 5 and data[5] >> 3 > _MAX_AC3_VERSION:
        return _E_AC3
    starts = [data[at : at + 1] for at in range(0, 3 * _TS_PACKET_BYTES, _TS_PACKET_BYTES)]
    return _TS_NAME if name is None and starts == [_TS_SYNC] * 3 else name


def _name_of(data: bytes, formats: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for at, magic, name in formats if data[at : at + len(magic)] == magic), None)


def _brands(data: bytes) -> bytes:
    """The brands of an ISO media file, such as HEIF, AVIF and MPEG-4."""
    return data[8 : min(int.from_bytes(data[:4], "big"), 256)] if data[4:8] == b"ftyp" else b""
