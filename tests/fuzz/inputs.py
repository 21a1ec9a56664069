"""Strategies: bytes near those of a valid file, text near YAML, and values near those of a configuration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
_WORDS = (
    "a photo of *",
    "*rain and *fire:0.5",
    "{label} of *",
    "*",
    "rain",
    "10",
    "1e9",
    "nan",
    "~",
    "null",
    "2024-13-45",
)
YAML_SIGNS = "-:*&!|>[]{},?#%@`'\"\\\n\t ~<=.0123456789eax_\x00\x85\u2028\ud83d\U0001f327"

texts = st.text(max_size=30) | st.sampled_from(_WORDS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(_NUMBERS)
    | st.floats()
    | st.just(math.nan)
    | texts
    | st.dates()
    | st.binary(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.one_of(texts, scalars), inner, max_size=4),
    max_leaves=8,
)


def mappings(
    own: Mapping[str, st.SearchStrategy[Any]], required: Mapping[str, st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[Any]:
    """Mappings with some of these keys; now and then another key, a wrong value, or no mapping at all."""
    whole = st.fixed_dictionaries(dict(required or {}), optional=dict(own))
    odd = st.dictionaries(st.sampled_from(sorted(own)) | texts | scalars, values, min_size=1, max_size=2)
    return rarely(st.builds(lambda first, second: {**first, **second}, whole, odd) | values, whole)


def rarely(seldom: st.SearchStrategy[Any], mostly: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One in five examples is from the first strategy."""
    return st.integers(0, 4).flatmap(lambda number: mostly if number else seldom)


def options_like(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Mappings near the options of a section: defaults, numbers and other values."""
    return mappings({name: _near_default(field) for name, field in kind.model_fields.items()})


def _near_default(field: FieldInfo) -> st.SearchStrategy[Any]:
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        return options_like(type(default))
    known = st.nothing() if default is PydanticUndefined else st.just(default)
    return known | st.sampled_from(_NUMBERS) | st.floats(0, 100) | texts


@st.composite
def near(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes of a valid file with a few changes: values, cuts, insertions, repetitions."""
    data = bytearray(valid)
    for _ in range(draw(st.sampled_from((1, 1, 2, 4)))):
        at = draw(st.integers(0, len(data)) | st.integers(0, min(len(data), 120)))
        size = draw(st.integers(0, 16) | st.integers(0, len(data) - at))
        match draw(st.sampled_from(("set", "number", "cut", "insert", "repeat", "end"))):
            case "set":
                new = draw(st.binary(min_size=1, max_size=8))
                data[at : at + len(new)] = new
            case "number":
                width, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
                number = draw(st.sampled_from(_NUMBERS)) % 2 ** (8 * width)
                data[at : at + width] = number.to_bytes(width, order)
            case "cut":
                del data[at : at + size]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=64))
            case "repeat":
                data[at:at] = bytes(data[at : at + size])
            case "end":
                del data[at:]
    return bytes(data)


def near_one_of(files: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes near those of one of these files; seldom any bytes at all."""
    return rarely(st.binary(max_size=400), st.sampled_from(files).flatmap(near))


@st.composite
def _edited(draw: st.DrawFn, text: str, signs: str) -> str:
    """A text in which a few pieces are replaced by others, or moved."""
    for _ in range(draw(st.sampled_from((1, 1, 2, 4)))):
        at, size = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        start = draw(st.integers(0, len(text)))
        moved = text[start : start + draw(st.integers(0, 40))]
        new = draw(st.text(st.sampled_from(signs), max_size=4) | st.sampled_from((*_WORDS, moved)))
        text = text[:at] + new + text[at + size :]
    return text


def near_text(text: str, signs: str = YAML_SIGNS) -> st.SearchStrategy[bytes]:
    """Bytes near those of a text, most of them UTF-8."""
    texts = _edited(text, signs).map(_encoded) | st.text(st.sampled_from(signs), max_size=80).map(_encoded)
    return rarely(near(text.encode()), texts)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
