"""Kinds of files by their names: sounds, images, tars, and what the operating system put beside them.

Sounds and images that cannot be read are of these kinds, too, so that each becomes a reject with its reason. Other
files are left aside and counted.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable

AUDIO_SUFFIXES = frozenset(
    # what libsndfile reads
    ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .mp1 .mp2 .mp3 .mpa .mpga .aif .aiff .aifc .aiffc .au .snd .caf"
    " .voc .sph .nist .iff .8svx .svx .avr .ircam .sf .paf .pvf .sds .xi .htk .wve"
    # what ffmpeg's libraries read, with the extra `av`, or what has to be converted
    " .m4a .m4b .m4p .m4r .mp4 .3gp .3g2 .3ga .webm .weba .mka .aac .adts .wma .wv .ape .tta .tak .ofr .shn .dsf .dff"
    " .mpc .spx .ra .rm .amr .awb .ac3 .eac3 .dts .mlp .thd .gsm .qcp .vox .aa .aax .oma .at3 .adx .sd2 .pcm .raw"
    " .mid .midi .kar .rmi"
    # videos, for their sound
    " .mkv .mov .qt .m4v .avi .flv .f4v .wmv .asf .ogv .mpg .mpeg .vob .m2ts .mts .ts".split()
)
IMAGE_SUFFIXES = frozenset(
    # what Pillow reads
    ".jpg .jpeg .jpe .jfif .jfi .jif .pjpeg .pjp .mpo .png .apng .webp .avif .avifs .gif .bmp .dib .tif .tiff .btf .tf8"
    # what has to be converted
    " .heic .heics .heif .heifs .hif .jxl .jp2 .j2k .j2c .jpc .jpf .jpx .jxr .wdp .hdp .jls .jng .mng .svg .svgz .ai"
    " .eps .psd .psb .xcf .kra .ico .cur .icns .tga .pcx .ppm .pgm .pbm .pnm .pam .pfm .qoi .exr .hdr .dds .sgi .ras"
    " .xbm .xpm .emf .wmf .bpg .flif"
    # camera raw files
    " .3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .gpr .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl"
    " .sr2 .srf .srw .x3f".split()
)
TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".jsonl", ".parquet"))
"""Of files that may be metadata tables."""

TAR_SUFFIX = ".tar"
TAR_SUFFIXES = (TAR_SUFFIX, ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Compressed tars are listed, too, so that each becomes a reject with its reason."""

_SYSTEM_NAMES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "icon\r"))
_SEPARATORS = re.compile(r"[?&:!_ (-]")
_MAX_SHOWN = 8
_NO_SUFFIX, _LINK = "no extension", "links to folders"


def suffix_of(name: str) -> str:
    """The extension in lower case, without what downloads add to it: `.jpg` of `a.JPG`, `a.jpg_large`, `a.jpg?w=9`."""
    return _SEPARATORS.split(os.path.splitext(name)[1].lower(), maxsplit=1)[0]


def is_ignored(path: str) -> bool:
    """Whether a file or one of its folders is hidden or the operating system's, as `._a.jpg` and `Thumbs.db`."""
    return any(
        part.lower() in _SYSTEM_NAMES or (part.startswith(".") and part not in (".", "..")) for part in path.split("/")
    )


def count_kinds(names: Iterable[str]) -> Counter[str]:
    """How many names have each extension; one that ends with / is that of a link to a folder."""
    return Counter(_LINK if name.endswith("/") else suffix_of(name) or _NO_SUFFIX for name in names)


def left_aside(counts: Counter[str]) -> str:
    """A phrase on files of no known kind, as `3 files of other kinds: .txt 2, no extension 1`; empty without any."""
    if not counts:
        return ""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{suffix} {num:,}" for suffix, num in most[:_MAX_SHOWN])
    rest = sum(num for _, num in most[_MAX_SHOWN:])
    files = "file" if counts.total() == 1 else "files"
    return f"{counts.total():,} {files} of other kinds: {shown}{f', others {rest:,}' if rest else ''}"
