"""Whether reading photos, finishing and encoding keep up with the model of `render`.

    PYTHONPATH=. python bench/render.py generate [--rate 10] [--format png] [--num 128]
    PYTHONPATH=. python bench/render.py edit [--rate 4.4] [--num 48]
    PYTHONPATH=. python bench/render.py guidance

`generate` and `edit`: a whole slice of pictures into a shard, with a stand-in for the model that takes as long as
Stable Diffusion 1.5 on an H200 (docs/PERFORMANCE.md). Pictures are noise of 512 x 512, the worst case for PNG; edits
are of photos of 2 megapixels. Goal: the model is at work 95 % of the time. `guidance`: pictures a second of the tiny
world's model with guidance at all noise levels, and in the interval of Kynkäänniemi et al.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.models.diffusion import Diffusion
from aai.models.options import RenderOptions
from aai.tiny.vocabulary import PHENOMENA, caption
from aai.tiny.world import load_world
from tasks.render import Renderer
from tasks.render_source import RenderSource
from tests.bank import add_cues, jobs_of, run_on

_SIDE = 512
_PHOTO = (1600, 1200)
_BATCH = 16


class StandIn:
    """A model that only takes time: `rate` pictures per second."""

    def __init__(self, rate: float) -> None:
        self.rate, self.busy_s = rate, 0.0
        self.noise = np.random.default_rng(0).integers(0, 256, (_BATCH, _SIDE, _SIDE, 3), dtype=np.uint8)

    def work(self, num: int) -> np.ndarray:
        """Take the time of some pictures."""
        time.sleep(num / self.rate)
        self.busy_s += num / self.rate
        return self.noise[:num]

    def render(self, prompts: list[str], *others: Any) -> np.ndarray:
        """In place of `Diffusion.render`."""
        return self.work(len(prompts))

    def from_photos(self, request: EditRequest, photos: Photos, inversions: Any) -> EditResult:
        """In place of `Editor.from_photos`."""
        pictures = self.work(len(request.prompts))
        masks = np.zeros((len(pictures), _SIDE // 8, _SIDE // 8), np.float32)
        masks[:, 20:40, 20:40] = 1
        return EditResult(pictures, pictures, masks)


def measure(folder: Path, model: StandIn, job: dict[str, Any], num: int) -> None:
    """The busy share of the stand-in while it renders a slice."""
    run = add_cues(run_on(folder / "bank", render={"batch_size": _BATCH}))
    rows = pa.concat_tables(RenderSource(run, jobs_of(run, job)).pending().rows).slice(0, num)
    size = patch.object(Diffusion, "default_size", new_callable=PropertyMock, return_value=_SIDE)
    with size, patch.object(Editor, "from_photos", lambda _, *given: model.from_photos(*given)):
        renderer = Renderer(run.context())
        with patch.object(renderer.diffusion, "render", model.render):
            start_s, cpu_start_s = time.perf_counter(), time.process_time()
            outcome = renderer(rows)
            took_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    assert outcome.rows is not None and outcome.rows.num_rows == rows.num_rows, outcome.rejects
    print(
        f"{rows.num_rows / took_s:.2f} of {model.rate} pictures/s, the model at work {model.busy_s / took_s:.1%}, "
        f"{1_000 * cpu_s / rows.num_rows:.0f} ms of processor time each"
    )


def write_photos(folder: Path, num: int) -> Path:
    """Photos of 2 megapixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(num):
        small = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        small.resize(_PHOTO, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return folder


def guidance() -> None:
    """Pictures a second with guidance at all noise levels, and in an interval."""
    diffusion = load_world().diffusion
    prompts = [caption("noun", name) for name in PHENOMENA[:8]]
    options = RenderOptions(steps=20, guidance=4)
    both = [options, options.model_copy(update={"guidance_interval": (0.28, 5.42)})]
    for each in both * 3:
        start_s = time.process_time()
        diffusion.render(prompts, list(range(8)), options=each)
        cpu_s = time.process_time() - start_s
        print(f"guidance at {each.guidance_interval or 'all levels'}: {8 / cpu_s:.2f} pictures per processor second")


def main() -> None:
    """Measure one thing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["generate", "edit", "guidance"])
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--num", type=int, default=None)
    parser.add_argument("--format", default="png", choices=["png", "jpg", "webp"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "guidance":
            guidance()
        elif given.what == "generate":
            num = given.num or 128
            job = {"seeds": -(-num // 5), "format": given.format}
            measure(Path(folder), StandIn(given.rate or 10), job, num)
        else:
            num = given.num or 48
            photos = write_photos(Path(folder) / "photos", num)
            job = {"mode": "edit", "source_prompt": "a city", "prompt": "a * city", "limit": 1, "format": "jpg"}
            measure(Path(folder), StandIn(given.rate or 4.4), job | {"source_images": str(photos)}, num)


if __name__ == "__main__":
    main()
