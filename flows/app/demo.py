"""The whole story on the tiny world: files -> a cue bank -> pictures -> scores, and what they come to.

What it all comes to is told without a model, so that a second run is over at once: who does the work imports what is
heavy.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aai.jobs.job import Job
from aai.jobs.jobfile import load_jobs
from aai.metrics import JUDGE_PHENOMENON
from tasks.render import plan as plan_of_render
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.score import num_unscored
from tasks.views.plan import plan as plan_of_build
from tasks.views.results import generations, results

if TYPE_CHECKING:
    from flows.steps import Do

CONFIG, JOBS, REPORT, SHEET = "aai.yaml", "jobs.yaml", "report.html", "sheet.webp"

NUM_CLIPS, NUM_IMAGES = 70, 2_000

_TABLES = ("sounds/sounds.csv", "images/loose/images.csv")
"""Written after what they describe, so that they say it is whole."""

_CONFIG = """\
# The demo's configuration. `aai init` writes one in which every option stands with its meaning.
# Change something here, and `aai plan -c {folder}/aai.yaml` says what would be done anew.

# The shipped models: small, offline, trained on procedural scenes and sounds.
profile: tiny

# Where things are; relative paths are meant from the folder of this file.
audio: sounds/
images: images/
metadata: [sounds/sounds.csv, images/loose/images.csv]
workspace: bank

# Small models on few items: all in this process. Without this line the work is Ray's.
pool:
  num_workers: 0
pools:
  fit: {{slice_size: 14}}  # a bar that moves
  render: {{slice_size: 32}}

# A cue per clip: `adapter` refines what the shared mapper says on the clip's own neighbours. `mapper`, `inversion` and
# `text` are others to compare with.
fit:
  method: adapter

# Denoising steps of a picture. The demo takes fewer than usual, to be over soon.
render:
  steps: 16
"""

_JOBS = """\
# The pictures that are wanted: of every cue, under every prompt. `*` is where the sound stands, and what the metadata
# says of a clip may stand in braces. After a change: `aai render {folder}/jobs.yaml -c {folder}/aai.yaml`

- name: noun
  prompt: a photo of *

- name: verb
  prompt: a * {{place}}

- name: adjective
  prompt: a {{place}} in the style of *

# The same place with the same seed, in which all but what is heard stays as it is:
# - name: edit
#   mode: edit
#   source_prompt: a {{place}}
#   prompt: a * {{place}}

# Of some cues only, several pictures each:
# - name: heavy rain
#   prompt: a photo of *
#   cues: label = 'rain' and (attributes ->> 'intensity')::double > 0.5
#   seeds: 4
"""


@dataclass(frozen=True)
class Figure:
    """What the pictures of one use of cues come to, and what is asked of it."""

    use: str
    phenomenon: float
    """Share of pictures in which the judge sees what is heard."""
    least_phenomenon: float
    intensity: float | None
    """Spearman's correlation of the clips' intensity with the judged one, within phenomena."""
    least_intensity: float | None


_BARS: dict[str, tuple[float, float | None]] = {"noun": (0.97, 0.85), "verb": (0.95, 0.7), "adjective": (0.9, None)}


def prepare(folder: Path) -> None:
    """Write the configuration and the jobs, unless they are there: a user may have changed them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((CONFIG, _CONFIG), (JOBS, _JOBS)):
        if not (folder / name).exists():
            (folder / name).write_text(text.format(folder=folder))


def is_finished(run: Run, folder: Path) -> bool:
    """Whether there is nothing left to do; told without a model and without Ray."""
    shown = all((folder / name).exists() for name in (REPORT, SHEET))
    if not (shown and _is_collected(folder)) or any(each.new for each in plan_of_build(run)):
        return False
    return not plan_of_render(run, _jobs(run, folder)).new and not num_unscored(run)


def demo(
    run: Run, folder: Path, do: "Do", num_clips: int = NUM_CLIPS, num_images: int = NUM_IMAGES
) -> list[StageSummary]:
    """Do all that is not done yet.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store failed, or a slice failed too often.
    """
    from flows.steps import build, render, score

    def collect(run: Run) -> StageSummary:
        return _collect(run, folder, num_clips, num_images)

    done = [do("collect", collect, run), *build(run, do)]
    for steps in (lambda: render(run, _jobs(run, folder), do), lambda: score(run, do)):
        if not done[-1].stopped:
            done += steps()
    return done


def show(run: Run, folder: Path) -> None:
    """Write the report, and the sheet with all in one picture.

    Raises:
        BadConfig: the report cannot be written.
        BadItem: a file of the collection is gone.
        Transient: the store failed.
    """
    from flows.app.contact_sheet import sheet
    from flows.app.report import report

    report(run, folder / REPORT)
    sheet(run, folder / SHEET, [each.use for each in figures(run)])


def figures(run: Run) -> list[Figure]:
    """What the scores of the configuration's pictures come to, for each use of cues that was rendered."""
    current = [each for each in generations(run) if each.is_current]
    found = {each.job: each.scores for each in results(run, current)}
    return [
        Figure(use, found[use].means[JUDGE_PHENOMENON], least, found[use].intensity, least_intensity)
        for use, (least, least_intensity) in _BARS.items()
        if use in found and JUDGE_PHENOMENON in found[use].means
    ]


def _jobs(run: Run, folder: Path) -> tuple[Job, ...]:
    return load_jobs(folder / JOBS, run.config.render)


def _is_collected(folder: Path) -> bool:
    return all((folder / table).exists() for table in _TABLES)


def _collect(run: Run, folder: Path, num_clips: int, num_images: int) -> StageSummary:
    """Write the collection, as a stage does its work."""
    start_s, num = time.monotonic(), num_clips + num_images
    if _is_collected(folder):
        return StageSummary("collect", "", done=num, new=0, rejected=0, took_s=0.0, rate=0.0)
    tell = run.watch("collect") if run.watch else None
    for number in _written(folder, num_clips, num_images):
        if tell:
            tell(number, num, number / (time.monotonic() - start_s))
    took_s = time.monotonic() - start_s
    return StageSummary("collect", "", done=0, new=num, rejected=0, took_s=took_s, rate=num / took_s)


def _written(folder: Path, num_clips: int, num_images: int) -> Iterator[int]:
    from aai.tiny.collection import write_images, write_sounds

    yield from write_sounds(folder / "sounds", num_clips)
    for number in write_images(folder / "images", num_images):
        yield num_clips + number
