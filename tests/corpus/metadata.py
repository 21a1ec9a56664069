"""Metadata tables, well-formed and not."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

ROWS = (("sounds/1.wav", "rain"), ("sounds/2.wav", "fire, and wind"))


@dataclass(frozen=True)
class MetadataTable:
    """A table, and what must become of it."""

    name: str
    data: Callable[[], bytes]
    sentence: str | None = None
    """A part of the error, if it is none of two rows."""


def _text(text: str, encoding: str = "utf-8") -> Callable[[], bytes]:
    return lambda: text.encode(encoding)


def _parquet(column: str = "file", **more: object) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(
        pa.table({column: [row[0] for row in ROWS], "label": [row[1] for row in ROWS]}), file, **more
    )
    return file.getvalue()


_PLAIN = 'file,label\nsounds/1.wav,rain\nsounds/2.wav,"fire, and wind"\n'

TABLES: tuple[MetadataTable, ...] = (
    MetadataTable("plain.csv", _text(_PLAIN)),
    MetadataTable("marked.csv", _text(_PLAIN, "utf-8-sig")),
    MetadataTable("windows.csv", _text(_PLAIN.replace("\n", "\r\n"))),
    MetadataTable("blank-lines.csv", _text(_PLAIN.replace("\n", "\n\n"))),
    MetadataTable("no-last-line-break.csv", _text(_PLAIN.rstrip())),
    MetadataTable("label-first.csv", _text('label,file\nrain,sounds/1.wav\n"fire, and wind",sounds/2.wav\n')),
    MetadataTable("lines.csv", _text(_PLAIN.replace("fire, and", "fire,\nand"))),
    MetadataTable("plain.parquet", _parquet),
    MetadataTable("zstd.parquet", lambda: _parquet(compression="zstd")),
    MetadataTable("comma.csv", _text(_PLAIN.replace('"', "")), "line 3"),
    MetadataTable("fewer.csv", _text("file,label,licence\nsounds/1.wav,rain,CC0\nsounds/2.wav,fire\n"), "line 3"),
    MetadataTable("no-file.csv", _text(_PLAIN.replace("file,", "sound,")), "no column"),
    MetadataTable("no-file.parquet", lambda: _parquet("sound"), "no column"),
    MetadataTable("latin.csv", _text(_PLAIN.replace("rain", "caf\u00e9"), "latin-1"), "UTF-8"),
    MetadataTable("bytes.csv", lambda: bytes(range(128, 256)) * 9, "UTF-8"),
    MetadataTable("cut.parquet", lambda: _parquet()[:-40], "cannot be read"),
    MetadataTable("text.parquet", _text(_PLAIN), "cannot be read"),
    MetadataTable("zero-bytes.parquet", lambda: b"", "cannot be read"),
)
