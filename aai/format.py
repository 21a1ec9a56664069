"""Texts for people: durations, URLs without their secrets, values of limited length."""

import re
from typing import Any

_MAX_CHARS = 100

_USER = re.compile(r"(\b[A-Za-z][\w+.-]*://)(?:[^/?#\s'\"]*|[^/?#\s'\"@:]*:(?!\d+/)[^\s'\"@]*)@")
"""The second form has a password with a slash, which no URL may have."""
_QUERY = re.compile(r"(\b[A-Za-z][\w+.-]*://[^?\s'\"]*)\?[^\s'\"]+")


def duration(seconds: float) -> str:
    """A duration as "3.2 s", "4 min 10 s" or "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def without_secrets(text: str) -> str:
    """A location, or a text with locations, without the users, passwords and queries of URLs."""
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1?…", _USER.sub(r"\1", text))


def shortened(value: Any) -> str:
    """A value as Python writes it, or the start of that."""
    text = repr(value[: 2 * _MAX_CHARS] if isinstance(value, str | bytes | list | tuple) else value)
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
