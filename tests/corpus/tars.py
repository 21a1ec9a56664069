"""Tars of every dialect, with good, odd and unusable members, and files that are no tars."""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from typing import Literal

from tests.corpus.cases import UNSAID, Broken, Said, Tar
from tests.corpus.pictures import drawing, saved

NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")
_LONG = "a-recording-made-in-the-rain/" * 9
_PREFIX = "f" * 90 + "/"

Member = tuple[str, bytes]


def picture_of(name: str) -> bytes:
    """An image that no other name has."""
    pixels = drawing()
    pixels[0, :4, 0] = list(struct.pack(">I", zlib.crc32(name.encode("utf-8", "surrogateescape"))))
    return saved("PNG", lambda: pixels)


def tar(members: list[Member], format: int = tarfile.GNU_FORMAT, mode: Literal["w", "w:gz"] = "w") -> bytes:
    """A tar of files, in this order; a name that ends with `/` is a folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=format, errors="surrogateescape") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name.rstrip("/"))
            header.type, header.size = (tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE), len(data)
            archive.addfile(header, io.BytesIO(data))
    return file.getvalue()


def block(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, change: Callable[[bytearray], object] = id
) -> bytes:
    """A header that `change` may damage, and the data after it, without the end of a tar."""
    header = tarfile.TarInfo(name)
    header.type, header.size, header.linkname = kind, len(data), "/etc/passwd" if kind != tarfile.REGTYPE else ""
    raw = bytearray(header.tobuf(tarfile.USTAR_FORMAT, errors="surrogateescape"))
    change(raw)
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:512]))
    return bytes(raw) + data + bytes(-len(data) % 512)


def _pictures(*names: str) -> list[Member]:
    return [(name, picture_of(name)) for name in names]


def _good(
    name: str,
    members: dict[str, Said],
    format: int = tarfile.GNU_FORMAT,
    sidecars: tuple[Member, ...] = (),
    aside: tuple[str, ...] = (),
) -> Tar:
    listed = [*_pictures(*members), *sidecars, *_pictures(*aside)]
    return Tar(name, partial(tar, listed, format), members, {}, aside)  # fmt: skip


def _unsaid(*names: str) -> dict[str, Said]:
    return dict.fromkeys(names, UNSAID)


def _json(**values: object) -> bytes:
    return json.dumps(values).encode()


def _negative(header: bytearray) -> None:
    header[124:136] = b"\xff" * 12


def _not_octal(header: bytearray) -> None:
    header[124:136] = b"999999999999"


def _old(header: bytearray) -> None:
    header[257:345] = bytes(88)


def _after_good(name: str, damaged: bytes) -> Tar:
    """A good member, then a header that cannot be read, at which the tar ends."""
    good = name.replace(".tar", ".png")
    return Tar(
        name, lambda: block(good, picture_of(good)) + damaged + bytes(1024), _unsaid(good), {"the end": "damaged"}
    )


def _pax(name: str, **records: str) -> bytes:
    """A member with PAX records."""
    body = b""
    for key, value in records.items():
        text = f" {key.replace('_', '.')}={value}\n".encode()
        size = len(text) + len(str(len(text) + len(str(len(text)))))
        body += str(size).encode() + text
    return block("PaxHeaders/x", body, tarfile.XHDTYPE) + block(name, picture_of(records.get("path", name)))


def _sparse(after: bytes = bytes(1024)) -> bytes:
    """A member of 8 kB of which only the last 512 bytes are stored, in GNU's own way."""

    def holes(header: bytearray) -> None:
        header[257:265] = b"ustar  \0"
        header[386:410] = b"%011o\0%011o\0" % (7_680, 512)
        header[483:495] = b"%011o\0" % 8_192

    return block("0.png", picture_of("0.png")) + block("holes.png", bytes(512), b"S", holes) + after


def _pax_sparse() -> bytes:
    """The same in the way of PAX, version 1.0: the data begin with a map of them."""
    records = (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=holes.png", b"GNU.sparse.realsize=8192")
    header = block("PaxHeaders/holes.png", b"".join(b"%d %s\n" % (len(record) + 4, record) for record in records), b"x")
    stored = b"1\n7680\n512\n".ljust(512, b"\0") + bytes(512)
    good = block("0.png", picture_of("0.png"))
    return good + header + block("GNUSparseFile.0/holes.png", stored) + tar(_pictures("1.png"))


_SAID: dict[str, Said] = {
    "1.png": ("rain", "heavy rain", "CC0"),
    "2.png": ("fire", None, None),
    "3.png": (None, "a crackling fire", None),
    "4.png": ("snow", "fresh snow", "CC-BY"),
}
_SIDECARS: tuple[Member, ...] = (
    ("1.json", _json(label="rain", caption="heavy rain", licence="CC0", place="Oslo")),
    ("2.cls", b"fire\n"),
    ("3.txt", b" a crackling fire \r\n"),
    ("4.json", _json(license="CC-BY", label="snow")),
    ("4.txt", b"fresh snow"),
)
_DOTTED: dict[str, Said] = {
    "2024.01.05 rain.png": ("rain", None, "CC0"),
    "2024.02.11 fire.png": ("fire", None, "CC-BY"),
    "2024.03.01 snow.png": UNSAID,
}
_VIEWS: dict[str, Said] = {
    "0001.left.png": ("left and right", None, None),
    "0001.right.png": ("left and right", None, None),
    "0002.left.png": ("only left", None, None),
    "folder.d/0001.png": ("in a folder", None, None),
}
_WRONG_SIDECARS: tuple[Member, ...] = (
    ("deep.json", b"[" * 100_000),
    ("digits.json", b'{"label": ' + b"1" * 5_000 + b"}"),
    ("list.json", b'["rain"]'),
    ("bytes.json", bytes(range(256))),
    ("nothing.json", b""),
    ("cut.json", b'{"label": "ra'),
    ("large.json", _json(label="r" * 2**21)),
)
_ODD_SIDECARS: dict[str, tuple[bytes, Said]] = {
    "number": (b'{"label": 7}', ("7", None, None)),
    "nan": (b'{"label": NaN, "caption": "rain"}', (None, "rain", None)),
    "null": (b'{"label": null, "licence": "CC0"}', (None, None, "CC0")),
    "surrogate": (b'{"label": "\\ud83d", "licence": "CC0"}', ("?", None, "CC0")),
    "emoji": (b'{"label": "\\ud83c\\udf27"}', ("\N{CLOUD WITH RAIN}", None, None)),
    "marked": ("\ufeff".encode() + b'{"label": "rain"}', ("rain", None, None)),
}

TARS: tuple[Tar, ...] = (
    _good("ustar.tar", _unsaid("0.png", "folder/1.png"), tarfile.USTAR_FORMAT),
    _good("gnu.tar", _unsaid("0.png", "1.png"), sidecars=(("folder/", b""),)),
    _good("gnu-long.tar", _unsaid(f"{_LONG}0.png", f"{_LONG}1.png")),
    _good("pax.tar", _unsaid("0.png", f"{_LONG}1.png", "r\u00e4in \u96e8.png"), tarfile.PAX_FORMAT),
    _good("prefix.tar", _unsaid(f"{_PREFIX}{'n' * 90}.png"), tarfile.USTAR_FORMAT),
    Tar("old.tar", lambda: block("0.png", picture_of("0.png"), change=_old) + bytes(1024), _unsaid("0.png"), {}),
    Tar("pax-global.tar", lambda: block("pax_global_header", b"52 comment=0123456789012345678901234567890123456789\n",
                                        tarfile.XGLTYPE) + tar(_pictures("0.png")), _unsaid("0.png"), {}),
    Tar("pax-path.tar", lambda: _pax("short.png", path="renamed/by-pax.png") + bytes(1024),
        _unsaid("renamed/by-pax.png"), {}),
    Tar("much-padding.tar", lambda: tar(_pictures("0.png")) + bytes(40_960), _unsaid("0.png"), {}),
    _good("from-a-folder.tar", {"./0.png": ("rain", None, None), "./folder/1.png": UNSAID},
          sidecars=(("./", b""), ("./0.cls", b"rain"))),
    _good("loud.tar", _unsaid("LOUD.PNG", "Quiet.Png")),
    _good("signs.tar", _unsaid("a b.png", "100%.png", "a%20b.png", "a#b.png", "a?b.png", "[1].png", "it's.png",
                               '"quoted".png', "-dash.png", "a,b.png", "a\\b.png", "~.png", "a*b.png")),
    _good("unicode.tar", _unsaid("caf\u00e9.png", "cafe\u0301.png", "\u96e8.png", "\N{CLOUD WITH RAIN}.png")),
    _good("sidecars.tar", _SAID, sidecars=_SIDECARS),
    _good("dots.tar", _DOTTED, sidecars=(
        ("2024.01.05 rain.json", _json(label="rain", licence="CC0")),
        ("2024.02.11 fire.json", _json(label="fire", licence="CC-BY")))),
    _good("views.tar", _VIEWS, sidecars=(
        ("0001.cls", b"left and right"), ("0002.cls", b"only left"), ("folder.d/0001.cls", b"in a folder"))),
    _good("odd-sidecars.tar", {f"{name}.png": said for name, (_, said) in _ODD_SIDECARS.items()},
          sidecars=tuple((f"{name}.json", data) for name, (data, _) in _ODD_SIDECARS.items())),
    _good("wrong-sidecars.tar", _unsaid(*(name.replace(".json", ".png") for name, _ in _WRONG_SIDECARS)),
          sidecars=_WRONG_SIDECARS),
    _good("macos.tar", {"0.png": ("rain", None, None), "folder/1.png": UNSAID}, sidecars=(("0.cls", b"rain"),),
          aside=("._0.png", "folder/._1.png", "__MACOSX/folder/._1.png")),
    Tar("sparse.tar", _sparse, _unsaid("0.png"), {"holes.png": "sparse"}),
    Tar("sparse-inside.tar", lambda: _sparse(tar(_pictures("1.png")) + bytes(8_192)), _unsaid("0.png", "1.png"),
        {"holes.png": "sparse"}),
    Tar("sparse-pax.tar", _pax_sparse, _unsaid("0.png", "1.png"), {"holes.png": "sparse"}),
    _after_good("negative.tar", block("x.png", b"", change=_negative)),
    _after_good("not-octal.tar", block("x.png", b"", change=_not_octal)),
    _after_good("pax-size.tar", _pax("x.png", size="-512")),
    _after_good("pax-sparse.tar", _pax("x.png", GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="y.png")),
    _after_good("pax-sparse-map.tar", _pax("x.png", GNU_sparse_map="1,x", GNU_sparse_size="9")),
)  # fmt: skip

_CUT_TAR = "cut short"


def _mixed() -> bytes:
    """Good members, one with a broken sidecar, among others that cannot be used."""
    links = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
    names = ("symbolic.png", "hard.png", "device.png", "pipe.png")
    members = [
        ("folder.png/", b""),
        *_pictures("0.png", "1.png", "2.png"),
        ("0.json", b'{"label": '),
        *_pictures("../out.png", "/root.png", "line\nbreak.png", "twice.png", "twice.png", f"{NOT_UTF8}.png"),
        ("zero-bytes.png", b""),
        ("text.png", b"Buy milk."),
        ("inner.tar", tar(_pictures("0.png"))),
    ]
    odd = b"".join(block(name, b"", kind) for name, kind in zip(names, links, strict=True))
    return odd + tar(members)


MIXED = Tar(
    "mixed.tar",
    _mixed,
    _unsaid("0.png", "1.png", "2.png", "twice.png"),
    {
        "../out.png": "leads out",
        "/root.png": "leads out",
        "twice.png": "second member",
        "symbolic.png": "link",
        "hard.png": "link",
        "device.png": "device",
        "pipe.png": "device",
        "zero-bytes.png": "empty",
        "text.png": "not a JPEG",
        r"caf\xe9.png": "UTF-8",
        r"line\nbreak.png": "line break",
        "inner.tar": "tar within a tar",
    },
)


def _huge() -> bytes:
    header = tarfile.TarInfo("huge.png")
    header.size = 2**40
    return block("0.png", picture_of("0.png")) + header.tobuf()


def _torn() -> bytes:
    data = bytearray(tar(_pictures("0.png", "1.png")))
    at = data.rindex(b"1.png\0")
    data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def _ends(name: str, data: Callable[[], bytes], sentence: str = _CUT_TAR) -> Tar:
    return Tar(name, data, _unsaid("0.png"), {"the end": sentence})


CUT_TARS: tuple[Tar, ...] = (
    _ends("cut.tar", lambda: tar(_pictures("0.png", "1.png"))[: 512 * 3 + 512 * (len(picture_of("0.png")) // 512)]),
    _ends("torn-header.tar", _torn, "damaged"),
    _ends("two-in-one.tar", lambda: tar(_pictures("0.png")) + tar(_pictures("1.png")), "damaged"),
    _ends("huge.tar", _huge),
    Tar("negative-at-once.tar", lambda: block("x.png", change=_negative) + bytes(1024), {}, {"the end": "damaged"}),
)

BROKEN_TARS: tuple[Broken, ...] = (
    Broken("zero-bytes.tar", lambda: b"", "empty"),
    Broken("text.tar", lambda: b"Buy milk.\n" * 400, "not a tar"),
    Broken("nothing.tar", partial(tar, []), "no members"),
    Broken("compressed.tar", lambda: tar(_pictures("0.png"), mode="w:gz"), "compressed"),
    Broken("compressed.tar.gz", lambda: tar(_pictures("1.png"), mode="w:gz"), "compressed"),
    Broken("compressed.tgz", lambda: tar(_pictures("2.png"), mode="w:gz"), "compressed"),
    Broken("compressed.tar.zst", lambda: b"\x28\xb5\x2f\xfd" + bytes(600), "compressed"),
    Broken("no-image.tar", partial(tar, [("notes.md", b"Buy milk.")]), "no member"),
)

ALL_TARS: tuple[Tar, ...] = (*TARS, MIXED, *CUT_TARS)
