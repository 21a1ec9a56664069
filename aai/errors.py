"""Every error this project raises on purpose.

AaiError
  BadItem      this clip, image or job is unusable: it becomes a row of `rejects`, the run goes on
  Transient    the world hiccuped (store, network, a lost node): retry
  BadConfig    the run cannot start: stop and say which key to change

Anything else is a bug: let it crash. A message holds what went wrong, with which thing, and what to do.
"""


class AaiError(Exception):
    """What all errors of this project have in common."""


class BadItem(AaiError):
    """A clip, image or job that cannot be used; the others can."""


class Transient(AaiError):
    """A failure that may be gone at the next try."""


class BadConfig(AaiError):
    """A setting with which no run can start; the message names its key."""
