"""The model hub: whether it answers, asked once per process."""

import socket
from functools import cache
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

_PROBE_S = 5.0


def use_hub(name: str | Path) -> None:
    """Before a model is loaded by its name: if the hub does not answer, load from the cache alone.

    The libraries would otherwise try for 25 s per file.
    """
    if not Path(name).exists() and not is_online():
        constants.HF_HUB_OFFLINE = True


def is_online() -> bool:
    """Whether models can be downloaded."""
    return not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT)


def cached_folder(name: str, revision: str | None) -> Path:
    """The folder in the hub's cache with the files of a model's revision that were downloaded; it may not be there."""
    repository = repo_folder_name(repo_id=name, repo_type="model")
    return Path(constants.HF_HUB_CACHE, repository, "snapshots", revision or "main")


@cache
def _answers(endpoint: str) -> bool:
    """Whether the hub answers at all, through a proxy if there is one."""
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=_PROBE_S).close()
    except URLError as error:  # other reasons, such as a certificate, are for the loader to name
        return not isinstance(error.reason, ConnectionError | socket.gaierror | TimeoutError)
    except OSError:  # it answers too slowly
        return True
    return True
