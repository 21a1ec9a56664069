"""Formats that are recognised and not read get their own name, and those that are read none."""

import struct

import pytest

from aai.errors import BadItem
from aai.media import audio, containers
from aai.media.images import ImageOptions, decode
from aai.media.unread import unread_image
from tests.media.pictures import file_of, picture, tiff_of


def iso(*brands: bytes) -> bytes:
    """The start of an ISO media file."""
    return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + bytes(80)


@pytest.mark.parametrize(
    "data, name",
    [
        (iso(b"heic", b"mif1", b"heic"), "a HEIC image"),
        (iso(b"mif1", b"heic"), "a HEIF image"),
        (iso(b"crx ", b"isom"), "a camera raw file (Canon CR3)"),
        (iso(b"isom", b"mp41"), "a video file"),
        (b"\xff\x0a" + bytes(80), "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI", "a PNG image compressed for iOS"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript file"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"P6\n16 16\n255\n", "a netpbm image"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera raw file (Canon CR2)"),
        (b"MM\0+\0\x08\0\0", "a BigTIFF image with the high byte first"),
    ],
)
def test_a_format_that_is_not_read_is_rejected_by_its_name(data, name):
    for uri in ("photos/a.jpg", "photos.tar#a"):
        with pytest.raises(BadItem) as error:
            decode(data, uri, ImageOptions())
        assert error.value.sentence == f"{name} is not read: convert it to PNG or JPEG, or delete it"
        assert error.value.uri == uri


def test_a_camera_raw_file_is_known_by_its_extension_if_it_is_a_tiff():
    tiff = tiff_of(16, 16, 8, 1, bytes(256))
    assert unread_image(tiff, "a.NEF") == unread_image(tiff, "b.dng") == "a camera raw file"
    assert unread_image(tiff, "a.tif") is None


@pytest.mark.parametrize("name", ["a.heic", "a.dng", "a.jpg_large", "a"])
def test_a_jpeg_is_read_whatever_its_name(name):
    assert decode(file_of(picture(), "JPEG"), name, ImageOptions()).format == "JPEG"


def test_avif_with_a_general_brand_is_not_called_heif():
    data = file_of(picture(), "AVIF").replace(b"ftypavif", b"ftypmif1", 1)
    assert unread_image(data, "a.avif") is None and decode(data, "a.avif", ImageOptions()).format == "AVIF"


@pytest.mark.parametrize(
    "data, name",
    [
        (b"\xff\xf1\x50\x80" * 99, "AAC (ADTS)"),
        (b"#!AMR\n" + bytes(99), "AMR"),
        (b"MAC \x96\x0f" + bytes(99), "Monkey's Audio"),
        (b"wvpk" + bytes(99), "WavPack"),
        (iso(b"M4A "), "MPEG-4 (m4a, mp4, AAC, ALAC)"),
        (b"\x0b\x77\0\0\0\x40" + bytes(99), "AC-3"),
        (b"\x0b\x77\0\0\0\x80" + bytes(99), "E-AC-3"),
        ((b"G" + bytes(187)) * 4, "MPEG transport stream"),
    ],
)
def test_a_sound_format_that_needs_a_further_package_is_rejected_by_its_name(data, name, monkeypatch):
    monkeypatch.setattr(containers, "is_installed", lambda: False)
    with pytest.raises(BadItem) as error:
        audio.decode(data, "a.wav", audio.AudioOptions())
    remedy = "pip install av, or convert it to FLAC or WAV"
    assert error.value.sentence == f"{name} files need a further package: {remedy}"


@pytest.mark.parametrize(
    "data, name",
    [(b"MThd\0\0\0\6\0\1\0\1\0\x60", "MIDI (notes without sound)"), (b"OFR " + bytes(99), "OptimFROG")],
)
def test_a_sound_format_that_nothing_reads_is_rejected_by_its_name(data, name):
    with pytest.raises(BadItem) as error:
        audio.decode(data, "a.wav", audio.AudioOptions())
    assert error.value.sentence == f"{name} files are not supported: convert it to FLAC or WAV"


def test_a_text_about_svg_is_no_drawing():
    assert unread_image(b"How to write <svg>", "a.jpg") is None
