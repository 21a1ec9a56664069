"""Every error this project raises on purpose.

AaiError
  BadItem      this clip, image or job is unusable: it becomes a row of `rejects`, the run goes on
    Unavailable  its file cannot be read now: the next run tries it again
    Unlabelled   its metadata lacks a label: it is tried again once the label has changed
  Transient    the store, the network or a node failed: retry
  BadConfig    the run cannot start: stop and say which key to change

Anything else is a bug: let it crash. The sentence says what went wrong and what to do; `key`, `uri` and `id` say with
which option, file or item. As text an error is all of these, so a sentence repeats none of them. Passwords and queries
of URLs are left out of both: they may be secret, and errors are printed, logged and stored.
"""

import difflib
from collections.abc import Iterable

from aai.format import without_secrets


class AaiError(Exception):
    """What all errors of this project have in common.

    Args:
        sentence: what is wrong, and the remedy.
        key: the option or argument at fault, as `fit.steps`.
        uri: the file at fault; a member of a tar as `pictures.tar#0001.jpg`.
        id: the id of the item at fault.
    """

    def __init__(self, sentence: str, *, key: str | None = None, uri: str | None = None, id: str | None = None) -> None:
        sentence = without_secrets(sentence)
        super().__init__(sentence)
        self.sentence, self.key, self.id = sentence, key, id
        self.uri = None if uri is None else without_secrets(uri)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.uri, self.key, self.sentence) if part)


def no_such_key(key: str, known: Iterable[str], otherwise: str) -> str:
    """A sentence about an unknown key: the known one that it resembles, or else another remedy."""
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"there is no such key: {f'did you mean {close[0]}?' if close else otherwise}"


class BadItem(AaiError):
    """A clip, image or job that cannot be used; the others can."""


class Unavailable(BadItem):
    """An item whose file cannot be read at present. Its reject does not keep the next run from trying again."""


class Unlabelled(BadItem):
    """An item without a label that can be used. Its reject is removed once its label has changed."""


class Transient(AaiError):
    """A failure that may be gone at the next try."""


class BadConfig(AaiError):
    """A setting with which no run can start; `key` names it."""
