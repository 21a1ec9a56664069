"""The doctor's look at models and optional packages: what is missing is said before a build needs it."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from aai.errors import BadConfig
from aai.models.folders import check_folders
from tasks.runtime.run import Run

EXTRAS = {
    "av": (("av",), "m4a, wma, ac3 and the sound of videos become rejects", "run `pip install '.[av]'` in the clone"),
    "joint": (
        ("timm", "torchvision"),
        "the joint encoder PE-AV cannot be loaded",
        "run `pip install timm torchvision`, of the same build as torch",
    ),
    "s3": (("s3fs",), "nothing can be in a bucket (s3://…)", "run `pip install '.[s3]'` in the clone"),
}
"""By extra: its packages, what is not possible without them, and how to install them."""

_ALWAYS_NOTED = ("av",)
"""Extras whose use depends on the files, not on the configuration."""
_LOCATIONS = ("audio", "images", "metadata")


def missing_extras(run: Run | None) -> Iterator[tuple[str, str | None]]:
    """A sentence for each extra that is not installed, and the remedy if the configuration cannot do without it.

    With a run, extras that do not concern it are left out.
    """
    needed = _needed_extras(run) if run else set()
    for extra, (packages, consequence, remedy) in EXTRAS.items():
        if all(find_spec(package) is not None for package in packages):
            continue
        fault = f"without the extra {extra} {consequence}"
        if extra in needed:
            yield f"{fault}, which this configuration needs", remedy
        elif run is None or extra in _ALWAYS_NOTED:
            yield f"{fault}; if you need it, {remedy}", None


def _needed_extras(run: Run) -> set[str]:
    """The extras that a configuration names something of."""
    places = [run.workspace.uri, *(each for key in _LOCATIONS for each in getattr(run.config, key))]
    needed = {"s3"} if any(place.startswith("s3://") for place in places) else set()
    # A folder of another name is looked at by `check_folders`, which knows the kind from its files.
    if any(role in run.roles and "pe-av" in run.revision(role)[0].lower() for role in ("joint", "audio_judge")):
        needed.add("joint")
    return needed


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
