"""Every error this project raises on purpose.

AaiError
  BadItem      this clip, image or job is unusable: it becomes a row of `rejects`, the run goes on
  Transient    the store, the network or a node failed: retry
  BadConfig    the run cannot start: stop and say which key to change

Anything else is a bug: let it crash. The sentence says what went wrong and what to do; `key`, `uri` and `id` say with
which option, file or item. As text an error is all of these, so a sentence repeats none of them.
"""


class AaiError(Exception):
    """What all errors of this project have in common.

    Args:
        sentence: what is wrong, and the remedy.
        key: the option or argument at fault, as `fit.steps`.
        uri: the file at fault; a member of a tar as `pictures.tar#0001.jpg`.
        id: the id of the item at fault.
    """

    def __init__(self, sentence: str, *, key: str | None = None, uri: str | None = None, id: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.key, self.uri, self.id = sentence, key, uri, id

    def __str__(self) -> str:
        return ": ".join(part for part in (self.key, self.uri, self.sentence) if part)


class BadItem(AaiError):
    """A clip, image or job that cannot be used; the others can."""


class Transient(AaiError):
    """A failure that may be gone at the next try."""


class BadConfig(AaiError):
    """A setting with which no run can start; `key` names it."""
