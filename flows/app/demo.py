"""The demo: a collection of the tiny world, a cue bank, pictures, scores and a report.

No model is loaded to find out what is left to do, so a second run ends at once.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aai.errors import BadConfig
from aai.jobs.job import Job
from aai.jobs.jobfile import load_jobs
from aai.metrics import JUDGE_PHENOMENON, Aggregate
from tasks.render import RenderSectionOptions, plan_render
from tasks.render_source import RenderSource
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.score import SCORES
from tasks.views.plan import plan as plan_of_build
from tasks.views.results import generations, results

if TYPE_CHECKING:
    from flows.steps import Do

CONFIG, JOBS, REPORT, SHEET = "aai.yaml", "jobs.yaml", "report.html", "sheet.webp"

NUM_CLIPS, NUM_IMAGES = 70, 2_000

_TABLES = ("sounds/sounds.csv", "images/loose/images.csv")
"""These files are written last, and so mark a complete collection."""

_CONFIG = """\
# The demo's configuration. `aai init` writes one that explains every option.
# After a change here, `aai plan -c {folder}/aai.yaml` prints what would be done again.

# The shipped models: small, offline, trained on procedural scenes and sounds.
profile: tiny

# Relative paths are resolved against the folder of this file.
audio: sounds/
images: images/
metadata: [sounds/sounds.csv, images/loose/images.csv]
workspace: bank

# Small models on few items: everything runs in this process. Without this line it runs on Ray.
pool:
  num_workers: 0
pools:
  render: {{slice_size: 32}}  # so that the progress bar moves

# One cue per clip: `mapper` predicts it from the sound. `adapter` fine-tunes it on the images retrieved for the clip,
# which takes seconds per clip; it and `inversion` are alternatives to compare with.
fit:
  method: mapper

# Denoising steps per picture; fewer than usual, so that the demo is quick.
render:
  steps: 16
"""

_JOBS = """\
# Each job renders every cue with its prompt. `*` stands for the sound, and names in braces for the clip's metadata.
# After a change: `aai render {folder}/jobs.yaml -c {folder}/aai.yaml`

- name: noun
  prompt: a photo of *

- name: verb
  prompt: a * {{place}}

- name: adjective
  prompt: a {{place}} in the style of *

# An edit: the same place from the same seed, in which everything but the sound's effect is preserved:
# - name: edit
#   mode: edit
#   source_prompt: a {{place}}
#   prompt: a * {{place}}

# Some cues only, four pictures each:
# - name: heavy rain
#   prompt: a photo of *
#   cues: label = 'rain' and (attributes ->> 'intensity')::double > 0.5
#   seeds: 4
"""


@dataclass(frozen=True)
class Figure:
    """Scores of the pictures in which cues have one use, and the values to reach."""

    use: str
    phenomenon: float
    """Accuracy of the judge against the clips' labels."""
    min_phenomenon: float
    intensity: float | None
    """Spearman's rank correlation of the clips' intensity with the judged one, within phenomena."""
    min_intensity: float | None
    tone: float | None
    """The same for the tone."""
    min_tone: float | None


_TARGETS: dict[str, tuple[float, float | None, float | None]] = {
    "noun": (0.97, 0.85, 0.6),
    "verb": (0.95, 0.7, None),
    "adjective": (0.9, None, None),
}
"""Minimum accuracy of the phenomenon and minimum correlations of intensity and tone, by use of the cue."""


def prepare(folder: Path) -> None:
    """Write the configuration and the jobs, unless they exist: the user may have changed them.

    Raises:
        BadConfig: the folder holds other files, or cannot be written to.
    """
    config, first = folder / CONFIG, _CONFIG.splitlines()[0]
    try:
        is_ours = config.exists() and first in config.read_text().splitlines()
        if folder.exists() and not is_ours and any(folder.iterdir()):
            raise BadConfig(
                f"the folder holds other files: name a new one (the demo's own has {CONFIG} with the line `{first}`)",
                key="FOLDER",
                uri=str(folder),
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((CONFIG, _CONFIG), (JOBS, _JOBS)):
            if not (folder / name).exists():
                (folder / name).write_text(text.format(folder=folder))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadConfig(f"it cannot be used ({reason}): name another folder", key="FOLDER", uri=str(folder)) from error


def is_finished(run: Run, folder: Path) -> bool:
    """Whether everything is done."""
    shown = all((folder / name).exists() for name in (REPORT, SHEET))
    if not (shown and _is_collected(folder)) or not plan_of_build(run).is_empty:
        return False
    source = RenderSource(run, _jobs(run, folder))
    return not plan_render(run, source).new and not run.pending(SCORES).num


def demo(
    run: Run, folder: Path, do: "Do", num_clips: int = NUM_CLIPS, num_images: int = NUM_IMAGES
) -> list[StageSummary]:
    """Do everything that is not done yet.

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
    """Write the report and the contact sheet.

    Raises:
        BadConfig: the report cannot be written.
        BadItem: a source file no longer exists.
        Transient: the store failed.
    """
    from flows.app.contact_sheet import sheet
    from flows.app.report import report

    report(run, folder / REPORT)
    sheet(run, folder / SHEET, [figure.use for figure in figures(run)])


def figures(run: Run) -> list[Figure]:
    """Aggregated scores for each use of cues that was rendered."""
    current = [generation for generation in generations(run) if generation.is_current]
    scores = {result.job: result.scores for result in results(run, current)}
    return [
        _figure(use, scores[use], *bars)
        for use, bars in _TARGETS.items()
        if use in scores and JUDGE_PHENOMENON in scores[use].means
    ]


def _figure(use: str, scores: Aggregate, phenomenon: float, intensity: float | None, tone: float | None) -> Figure:
    """Scores beside the values to reach."""
    found = scores.means[JUDGE_PHENOMENON]
    return Figure(use, found, phenomenon, scores.intensity.rank, intensity, scores.tone.rank, tone)


def _jobs(run: Run, folder: Path) -> tuple[Job, ...]:
    return load_jobs(folder / JOBS, run.config.options(RenderSectionOptions).of_jobs)


def _is_collected(folder: Path) -> bool:
    return all((folder / table).exists() for table in _TABLES)


def _collect(run: Run, folder: Path, num_clips: int, num_images: int) -> StageSummary:
    """Write the collection; progress and summary are those of a stage."""
    start_s, num = time.monotonic(), num_clips + num_images
    if _is_collected(folder):
        return StageSummary.nothing("collect", "", num)
    progress = run.watch("collect") if run.watch else None
    for number in _written(folder, num_clips, num_images):
        if progress:
            progress(number, num, number / (time.monotonic() - start_s))
    took_s = time.monotonic() - start_s
    return StageSummary("collect", "", done=0, new=num, rejected=0, took_s=took_s)


def _written(folder: Path, num_clips: int, num_images: int) -> Iterator[int]:
    from aai.tiny.collection import write_images, write_sounds

    yield from write_sounds(folder / "sounds", num_clips)
    for number in write_images(folder / "images", num_images):
        yield num_clips + number
