"""Where workers go, and how soon a stage starts that follows one on the same model."""

from collections.abc import Iterator

from aai.jobs.jobfile import make_jobs
from bench.gpu.bank import absent_recordings, add_clips, add_images, add_neighbours
from bench.gpu.rows import Measured
from bench.gpu.setting import Setting, count_of, watched
from bench.gpu.sources import write_tar
from tasks.fit import CUES
from tasks.render import RenderSectionOptions, render
from tasks.runtime.options import PoolOptions
from tasks.runtime.placement import Node, place
from tasks.views.placement import placements

_LARGE = Node(cpus=32, gpus=4)


def measure(setting: Setting) -> Iterator[Measured]:
    """The row `placed`; its notes say what would be placed on this machine."""
    placement = place(PoolOptions(), has_model=True, nodes=[_LARGE] * 2)
    measured = Measured("placed", [float(placement.num_workers)], num_items=2)
    measured.notes = [f"here, {phrase}" for phrase in placements(setting.open("placed", pool={"address": "local"}))]
    yield measured


def measure_next(setting: Setting) -> Iterator[Measured]:
    """The row `next_stage`: `fit`, and then `render` of one picture in one step; on Ray unless it is small."""
    pool = {"num_workers": 0} if setting.is_small else {"address": "local"}
    fit = {"method": "inversion", "steps": 1, "eval_rows": 1}
    run = setting.open("next", pool=pool, fit=fit, render={"steps": 1})
    images = add_images(run, write_tar(setting.folder / "next.tar", 2, seed=8))
    clips = add_clips(run, absent_recordings(2), setting.sizes.duration_s)
    add_neighbours(run, clips[:1], images, 128 if setting.is_small else 768)
    measured = Measured("next_stage", num_items=1)
    try:
        fitted = run.do(CUES)
        count_of(fitted)
        with watched(measured):
            for seed in range(setting.sizes.repetitions):
                job = {"prompt": "a photo of *", "seeds": [seed]}
                jobs = make_jobs([job], run.config.options(RenderSectionOptions).of_jobs)
                summary = render(run, jobs)
                count_of(summary)
                measured.values.append(summary.took_s)
    finally:
        run.close()
    where = "in this process" if setting.is_small else "on Ray"
    measured.notes.append(f"{where}; the stage before took {fitted.took_s:.1f} s, with its start")
    yield measured
