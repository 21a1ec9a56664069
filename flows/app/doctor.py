"""Doctor: versions, devices and the health of a workspace; each fault comes with a remedy."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import faiss

from aai.errors import BadConfig
from aai.retrieve.index import faiss_build
from aai.workspace.drivers import at_work
from flows.app.doctor_models import missing_extras, models
from tasks.list_files import look
from tasks.runtime.placement import this_machine
from tasks.runtime.run import Run
from tasks.views.confidence import doubts
from tasks.views.placement import placements
from tasks.views.plan import metadata_notes

_PACKAGES = ("aai", "torch", "diffusers", "transformers", "ray", "deltalake", "pyarrow", "numpy")

_FAISS_REMEDIES = {
    "both": "they overwrite each other's files: `pip uninstall -y faiss-cpu faiss-gpu`, then `pip install` one of them",
    "none": "install faiss-cpu, or faiss-gpu on a machine with a GPU",
}
_GIB = 2**30
_PRUNE = "remove them with `aai bank prune --yes`"


@dataclass(frozen=True)
class Finding:
    """One line of output."""

    text: str
    remedy: str | None = None
    """What to do; None if nothing is wrong."""

    @property
    def is_wrong(self) -> bool:
        """Whether there is something to do."""
        return self.remedy is not None

    @property
    def line(self) -> str:
        """The line as printed."""
        return f"WRONG  {self.text}: {self.remedy}" if self.remedy else f"ok     {self.text}"


def examine(run: Run | None) -> list[Finding]:
    """Examine the installation and, if a run is given, its workspace and the metadata of its files.

    Raises:
        Transient: the store failed.
    """
    if run is None:
        return [*_software(None), *_gpus()]
    drivers = list(_drivers(run))
    found = [Finding(text, remedy) for text, remedy in models(run)]
    of_run = [*_placement(run), *_sources(run), *drivers, *_workspace(run, bool(drivers)), *_metadata(run)]
    return [*_software(run), *_gpus(), *found, *of_run, *_confidences(run)]


def _software(run: Run | None) -> list[Finding]:
    findings = [Finding(f"Python {sys.version.split()[0]}")]
    for name in _PACKAGES:
        try:
            findings.append(Finding(f"{name} {version(name)}"))
        except PackageNotFoundError:
            findings.append(Finding(f"{name} is missing", "run `make install`"))
    return [*findings, _faiss(), *(Finding(*each) for each in missing_extras(run))]


def _faiss() -> Finding:
    """Which FAISS searches, and where."""
    build = faiss_build()
    if remedy := _FAISS_REMEDIES.get(build):
        return Finding(f"faiss: {build}", remedy)
    num = faiss.get_num_gpus()
    return Finding(f"faiss: {build} {faiss.__version__}, searches on {f'{num} GPUs' if num else 'CPUs'}")


def _gpus() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        num = this_machine().gpus
        remedy = "torch cannot use them: install the build of PyTorch for the driver's version of CUDA" if num else None
        return [Finding("no GPU: models run on the CPU, which is fast enough for the profile tiny only", remedy)]
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [
        Finding(f"GPU {number}: {device.name}, {device.total_memory / _GIB:.0f} GiB")
        for number, device in enumerate(devices)
    ]


def _placement(run: Run) -> list[Finding]:
    """Where the stages work."""
    try:
        return [Finding(phrase) for phrase in placements(run)]
    except BadConfig as error:
        return [Finding("stages have no place to work", str(error))]


def _sources(run: Run) -> Iterator[Finding]:
    """The configured locations, compared with the last build."""
    for key, table in (("audio", "audio_listing"), ("images", "image_listing")):
        if not getattr(run.config, key):
            continue
        try:
            listing = look(run, table)
        except BadConfig as error:
            reason, _, remedy = str(error).rpartition(": ")
            yield Finding(reason, remedy)
            continue
        yield Finding(f"{listing.current.num_rows:,} files in the locations of {key}")
        if listing.num_gone:
            remedy = "run `aai build` to take note, or put them back; `aai bank prune --removed` removes their rows"
            yield Finding(f"{listing.num_gone:,} files of {key} that the last build found are gone", remedy)


def _workspace(run: Run, is_at_work: bool) -> list[Finding]:
    """What killed runs left. Files that a run at work has just written are not named yet, either."""
    health = run.workspace.health()
    faults = [
        (health.orphan_files, "data files that no commit names", f"readers of plain Parquet see their rows: {_PRUNE}"),
        (health.orphan_shards, "shards that no row names", f"killed runs left them: {_PRUNE}"),
        (health.missing_shards, "missing shards that rows name", "restore them, or render into a new workspace"),
        (health.leftovers, "files of unpublished artifacts", f"killed runs left them: {_PRUNE}"),
    ]
    findings = [
        Finding(f"{len(paths)} {what}, such as {paths[0]}", None if is_at_work and _PRUNE in remedy else remedy)
        if paths
        else Finding(f"0 {what}")
        for paths, what, remedy in faults
    ]
    num_duplicates = sum(keys.num_rows for keys in health.duplicates.values())
    remedy = "two runs wrote without Delta's conflict check: use one row per key, and report this bug"
    return [*findings, Finding(f"{num_duplicates} keys with several rows", remedy if num_duplicates else None)]


def _drivers(run: Run) -> Iterator[Finding]:
    """Who is at work, as far as can be known without waiting for the next sign of life."""
    for driver, file in at_work(run.workspace.store):
        renewed = f"{datetime.fromtimestamp(driver.renewed_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
        yield Finding(f"at work on {driver.table}: {file.process}; last sign of life {renewed}")


def _confidences(run: Run) -> list[Finding]:
    """Whether the encoders know the sounds; it is no fault of the bank if they do not."""
    return [Finding(doubt) for doubt in doubts(run) or ["no clip with a low confidence"]]


def _metadata(run: Run) -> list[Finding]:
    if not (run.config.audio and run.config.images):
        return []
    try:
        faults, corrections = metadata_notes(run)
    except BadConfig as error:
        if error.key in ("audio", "images"):
            return []  # a location, of which `_sources` tells
        return [Finding(str(error), "`aai build` needs it, too")]
    wrong = [Finding(note, "docs/METADATA.md has the rules") for note in faults]
    return [*map(Finding, corrections), *(wrong or [Finding("metadata: nothing to mend")])]
