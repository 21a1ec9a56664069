"""What is here and what is wrong: versions, devices, the health of a workspace; each fault with its remedy."""

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from aai.retrieve.index import faiss_build
from tasks.runtime.run import Run

_PACKAGES = ("torch", "diffusers", "transformers", "ray", "deltalake", "pyarrow", "numpy")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    text: str
    remedy: str | None = None
    """What to do; nothing for what is as it should be."""

    @property
    def is_wrong(self) -> bool:
        """Whether something is to be done."""
        return self.remedy is not None

    @property
    def line(self) -> str:
        """What is printed."""
        return f"WRONG  {self.text}: {self.remedy}" if self.remedy else f"ok     {self.text}"


def examine(run: Run | None) -> list[Finding]:
    """Everything there is to say, of the workspace too if there is one.

    Raises:
        Transient: the store failed.
    """
    return [*_software(), _gpu(), *(_workspace(run) if run else [])]


def _software() -> list[Finding]:
    found = [Finding(f"Python {sys.version.split()[0]}")]
    for name in _PACKAGES:
        try:
            found.append(Finding(f"{name} {version(name)}"))
        except PackageNotFoundError:
            found.append(Finding(f"{name} is missing", "run `make install`"))
    faults = {"both": "faiss-cpu and faiss-gpu overwrite one another: uninstall both, then install one",
              "none": "install faiss-cpu, or faiss-gpu on a machine with a GPU"}  # fmt: skip
    build = faiss_build()
    return [*found, Finding(f"faiss: {build}", faults.get(build))]


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding(f"GPU: {torch.cuda.get_device_name()}")
    return Finding("no GPU: models run on the CPU, which suits the profile tiny alone")


def _workspace(run: Run) -> list[Finding]:
    health = run.workspace.health()
    rows = sum(table.num_rows for table in health.duplicates.values())
    faults = [
        (health.orphan_files, "data files that no commit names", "invisible here, but not to who reads the folder as "
         "plain Parquet: delete them while no run is at work"),
        (health.orphan_shards, "shards that no row names", "left by killed runs: delete them while no run is at work"),
        (health.missing_shards, "shards are missing that rows name", "restore them, or render into a new workspace"),
        (health.leftovers, "files of artifacts that were not published", "delete them while no run is at work"),
    ]  # fmt: skip
    found = [
        Finding(f"{len(paths)} {what}, as {paths[0]}", remedy) if paths else Finding(f"0 {what}")
        for paths, what, remedy in faults
    ]
    twice = "two runs wrote at once without Delta's check: read each key once, and report this"
    return [*found, Finding(f"{rows} keys with several rows", twice if rows else None)]
