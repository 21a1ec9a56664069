"""The doctor's look at models and optional packages: what is missing is said before a build needs it."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from aai.errors import BadConfig
from aai.models.folders import check_folders
from tasks.runtime.run import Run

EXTRAS = {
    "av": (("av",), "m4a, wma, ac3 and the sound of videos become rejects"),
    "joint": (("timm", "torchvision"), "the joint encoder PE-AV cannot be loaded"),
    "s3": (("s3fs",), "nothing can be in a bucket (s3://…)"),
}
"""By extra: its packages, and what is not possible without them."""


def missing_extras() -> Iterator[str]:
    """A sentence for each extra that is not installed."""
    for extra, (packages, consequence) in EXTRAS.items():
        if any(find_spec(package) is None for package in packages):
            yield f"without the extra {extra} {consequence} (`pip install 'aai[{extra}]'`)"


def models(run: Run) -> Iterator[tuple[str, str | None]]:
    """What is known of each model of a configuration without loading it, and the remedy if something is wrong.

    Raises:
        BadConfig: a model is not named correctly.
    """
    folders: dict[str, Path] = {}
    for role in run.roles:
        name = run.revision(role)[0]
        try:
            folder = run.model_folder(role)
            check_folders({role: folder} if folder else {})
        except BadConfig as error:
            yield _split(error)
            continue
        if folder is None:
            yield f"models.{role}: {name} is not in the cache yet: the first run that needs it downloads it", None
            continue
        folders[role] = folder
        yield f"models.{role}: {name}", None
    if set(folders) == set(run.roles):
        try:
            run.check_models()
        except BadConfig as error:
            yield _split(error)


def _split(error: BadConfig) -> tuple[str, str]:
    """The fault and the remedy of an error's sentence."""
    fault, _, remedy = str(error).rpartition(": ")
    return fault, remedy
