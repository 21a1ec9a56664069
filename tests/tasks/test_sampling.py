"""Options that do not suit a few-step model are named before it is loaded, and ids are those of before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aai.errors import BadConfig
from aai.tiny.world import WEIGHTS
from tasks.combinations import options_of
from tasks.render import render
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tests.bank import add_cues, jobs_of, json_of, rows_of, run_on

LCM = {"_class_name": "LCMScheduler", "original_inference_steps": 50}
TURBO = {
    "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}  # fmt: skip


def run_with(tmp_path: Path, scheduler: dict) -> Run:
    """A run whose text-to-image model says that it has another scheduler."""
    folder = shutil.copytree(WEIGHTS / "pipeline", tmp_path / "pipeline")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | scheduler))
    return add_cues(run_on(tmp_path / "bank", models={"diffusion": {"name": str(folder)}}))


def test_guidance_that_a_distilled_model_cannot_have_stops_before_any_work(tmp_path):
    run = run_with(tmp_path, LCM)
    with pytest.raises(BadConfig, match=r"7\.5 is too much for a model that was distilled to few steps") as error:
        RenderSource(run, jobs_of(run, {"guidance": 7.5, "steps": 4}))
    assert error.value.key == "jobs: job 1: guidance"
    assert RenderSource(run, jobs_of(run, {"guidance": 1, "steps": 4})).warnings() == []
    [warning] = RenderSource(run, jobs_of(run, {"guidance": 1, "steps": 25})).warnings()
    assert warning.startswith("jobs: job 1: steps 25")


def test_photos_cannot_be_inverted_along_steps_that_a_distilled_model_does_not_have(tmp_path):
    run = run_with(tmp_path, LCM)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photo.png")
    photo = {"mode": "stylise", "source_images": str(tmp_path / "photo.png"), "source_prompt": "a city", "steps": 4}
    with pytest.raises(BadConfig, match="set it to virtual") as error:
        RenderSource(run, jobs_of(run, photo))
    assert error.value.key == "jobs: job 1: edit.inversion"
    assert RenderSource(run, jobs_of(run, photo | {"edit": {"inversion": "virtual"}})).pending().num == 5


def test_what_is_probably_not_meant_is_a_warning(tmp_path):
    run = run_with(tmp_path, TURBO)
    [warning] = RenderSource(run, jobs_of(run, {"guidance": 7.5})).warnings()
    assert warning.startswith("jobs: job 1: guidance 7.5: if this is a model that was distilled")
    assert RenderSource(run, jobs_of(run, {"guidance": 0, "steps": 1})).warnings() == []


def test_the_shipped_model_takes_all_options(tmp_path):
    run = add_cues(run_on(tmp_path / "bank"))
    assert RenderSource(run, jobs_of(run, {"guidance": 12, "steps": 100})).warnings() == []


def test_an_interval_is_part_of_an_id_only_if_there_is_one(tmp_path):
    run = add_cues(run_on(tmp_path / "bank"))
    [plain, within] = jobs_of(
        run, {"name": "a", "guidance": 4}, {"name": "b", "guidance": 4, "guidance_interval": [0.28, 5]}
    )
    assert options_of(plain) == (
        '{"format": "png", "guidance": 4.0, "height": null, "scheduler": null, "steps": 2, "width": null}'
    )
    assert json.loads(options_of(within)) == json.loads(options_of(plain)) | {"guidance_interval": [0.28, 5.0]}
    assert render(run, [plain, within]).new == 10
    by_job = {row["job"]: row for row in rows_of(run)}
    assert [json_of(run, by_job[name])["guidance_interval"] for name in "ab"] == ["", "(0.28, 5]"]
    assert by_job["a"]["checksum"] != by_job["b"]["checksum"]


@pytest.mark.parametrize("interval", [5, [1], "a", [1, "b"], [3, 1]])
def test_a_wrong_interval_is_a_sentence(tmp_path, interval):
    run = run_on(tmp_path / "bank")
    with pytest.raises(BadConfig) as error:
        jobs_of(run, {"guidance": 4, "guidance_interval": interval})
    assert error.value.key.startswith("jobs: job 1: guidance_interval") and "_" not in error.value.sentence
