"""What disks and the clients of stores raise, translated into this project's errors.

A store may raise errors of Python, of its client (botocore, aiohttp, gcsfs and so on, which need not be installed) and
of Delta, Arrow and DuckDB, some of which carry a cause only in their text. An error is therefore known by its class's
name and package, and its text.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from aai.errors import AaiError, BadConfig, Transient

_CLIENTS = frozenset(
    "adlfs aiobotocore aiohttp azure botocore fsspec gcsfs google http httpcore httpx huggingface_hub requests s3fs "
    "urllib3".split()
)
"""Packages whose errors are those of a store; `http` is Python's own client."""

_BUGS = frozenset(["ParamValidationError", "MissingParametersError", "UnknownParameterError"])
"""Errors of these packages that say that they were called wrongly."""

_FULL = re.compile(r"No space left|os error 28\b|StorageFull|NotEnoughSpace")
_OVER_QUOTA = re.compile(r"[Qq]uota exceeded|os error 122\b|QuotaExceeded")
_REFUSED = re.compile(
    r"PermissionError|[Pp]ermission denied|os error 13\b|Credential|AccessDenied|Access Denied|InvalidAccessKeyId|"
    r"SignatureDoesNotMatch|Expired ?Token|TokenRetrieval|TokenLoad|AuthenticationError|RefreshError|NoRegion|"
    r"ProfileNotFound|\b40[13] (Forbidden|Unauthorized)|InvalidToken|Unauthorized|AccountProblem|AllAccessDisabled"
)
_CREDENTIALS = re.compile(r"InvalidAccessKeyId|SignatureDoesNotMatch|Expired|InvalidToken|TokenRefresh|TooSkewed")
"""Refusals of every request, and not of one file."""
_NO_BUCKET = re.compile(r"NoSuchBucket|[Bb]ucket does not exist|ContainerNotFound|bucket .*not found")
_OF_DELTA = re.compile(r"Generic (\w+) error")
"""How Delta names a store; the class of its error is `OSError` then."""
_READ_ONLY = re.compile(r"[Rr]ead-only file system|os error 30\b")


@contextmanager
def store_errors(doing: str, key: str | None = "workspace") -> Iterator[None]:
    """Translate what a store raises; `FileNotFoundError` passes through unless the whole bucket is missing.

    The original message stays in the cause, because it may contain secrets.

    Args:
        doing: what was tried, with the store's name, such as `reading s3://bank/cues`.
        key: the option that names the store.

    Raises:
        Transient: disk, network or bucket failed, or the disk is full.
        BadConfig: credentials or permissions are wrong, or there is no such bucket.
    """
    try:
        yield
    except AaiError:
        raise
    except Exception as error:
        if (translated := translation(error, doing, key)) is None:
            raise
        raise translated from error


def translation(error: Exception, doing: str, key: str | None = "workspace") -> AaiError | None:
    """The error of this project that an error of a store stands for; none if no store raised it, or a file is gone."""
    text = f"{type(error).__name__}: {error}; {error.__cause__}"  # s3fs gives S3's code in the cause alone
    if _NO_BUCKET.search(text):
        return BadConfig(f"{doing} failed: there is no such bucket: make it, or name another one", key=key)
    if isinstance(error, FileNotFoundError) or not _is_of_store(error):
        return None
    return of_text(text, doing, key, getattr(error, "errno", None))


def of_text(text: str, doing: str, key: str | None = "workspace", number: int | None = None) -> AaiError:
    """The error that the text of a store's error, `class: message`, stands for; `number` is its errno."""
    name = text.split(":", 1)[0]
    if number == errno.ENOSPC or _FULL.search(text):
        return Transient(f"{doing} failed: no space left on the disk: make room, then run the same command again")
    if number == errno.EDQUOT or _OVER_QUOTA.search(text):
        return Transient(f"{doing} failed: your disk quota is used up: make room, then run the same command again")
    if number == errno.EROFS or _READ_ONLY.search(text):
        return BadConfig(f"{doing} failed: the file system is read-only: name another place", key=key)
    if _REFUSED.search(text):
        return BadConfig(
            f"{doing} was refused ({name}): look at credentials in the environment, and at permissions", key=key
        )
    if of_delta := _OF_DELTA.search(text):
        name = of_delta.group()
    return Transient(f"{doing} failed ({name}): look at disk space, network and access")


def is_of_one_file(error: PermissionError) -> bool:
    """Whether access to a file was denied; otherwise the credentials are wrong."""
    return not _CREDENTIALS.search(f"{error} {error.__cause__}")


def _is_of_store(error: Exception) -> bool:
    if isinstance(error, OSError):
        return True
    package = type(error).__module__.split(".")[0]
    return package in _CLIENTS and type(error).__name__ not in _BUGS
