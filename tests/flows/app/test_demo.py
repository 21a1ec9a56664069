"""The demo as a user runs it, on a collection of a few items: all of it, and once more."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aai.errors import BadConfig
from flows.app import demo as story
from flows.steps import at_once
from tasks.stages import load_config, open_run

NUM_CLIPS, NUM_IMAGES = 10, 40
QUICK = {
    "steps: 16": "steps: 2\n  guidance: 1",
}
STAGES = """collect list_images list_audio read_image_tars read_audio_tars describe_image_members
describe_audio_members ingest_images ingest_audio embed_images embed_audio align index retrieve fit confidence
render score""".split()


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Path, list]:
    """A folder in which a small demo has run, and what its stages did."""
    folder = tmp_path_factory.mktemp("demo")
    story.prepare(folder)
    config = folder / story.CONFIG
    text = config.read_text()
    for slow, quick in QUICK.items():
        assert slow in text
        text = text.replace(slow, quick)
    config.write_text(text)
    run = open_run(load_config(config))
    done = story.demo(run, folder, at_once, NUM_CLIPS, NUM_IMAGES)
    story.show(run, folder)
    return folder, done


def test_every_stage_does_all_of_its_work(shown):
    _, done = shown
    assert [summary.stage for summary in done] == STAGES
    new = {summary.stage: summary.new for summary in done}
    assert new["collect"] == NUM_CLIPS + NUM_IMAGES and new["embed_images"] == NUM_IMAGES
    assert (new["fit"], new["render"], new["score"]) == (NUM_CLIPS, 3 * NUM_CLIPS, 3 * NUM_CLIPS)
    assert not any(summary.rejected for summary in done)


def test_labels_intensities_places_and_licences_are_in_the_tables(shown):
    run = open_run(load_config(shown[0] / story.CONFIG))
    for name, num in (("clips", NUM_CLIPS), ("images", NUM_IMAGES)):
        with run.query() as query:
            rows = query.table(f"SELECT label, licence, attributes FROM present_{name}").to_pylist()
        assert len(rows) == num and {row["licence"] for row in rows} == {"CC0-1.0"}
        assert all("intensity" in row["attributes"] for row in rows if row["label"])
    prompts = set(run.workspace.table("renders").read(["prompt"])["prompt"].to_pylist())
    assert {"a photo of *", "a * city", "a forest in the style of *"} <= prompts and len(prompts) == 11


def test_the_contact_sheet_has_two_clips_of_every_phenomenon(shown):
    with Image.open(shown[0] / story.SHEET) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[0] > 10 * 128 and pixels.shape[1] > 10 * 128
    assert (shown[0] / story.REPORT).read_text().count('class="card"') == NUM_CLIPS


def test_the_command_has_nothing_left_to_do_loads_no_model_and_prints_the_table(shown):
    probe = (
        "import sys; from typer.testing import CliRunner; from flows.app.cli import app\n"
        f"done = CliRunner().invoke(app, ['demo', {str(shown[0])!r}])\n"
        "print(done.output, done.exit_code, *sorted({'torch', 'ray', 'prefect'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1].strip() == "0"
    for use in ("noun", "verb", "adjective", "0.97", "report.html"):
        assert use in ran.stdout
    assert "fit" not in ran.stdout


@pytest.mark.slow
def test_what_the_user_changed_stays_and_is_done(shown):
    folder = shown[0]
    jobs = folder / story.JOBS
    jobs.write_text("- {name: noun, prompt: a picture of *, limit: 3}\n")
    story.prepare(folder)
    run = open_run(load_config(folder / story.CONFIG))
    assert not story.is_finished(run, folder)
    done = {summary.stage: summary.new for summary in story.demo(run, folder, at_once)}
    story.show(run, folder)
    assert done["render"] == 3 and done["fit"] == 0 and story.is_finished(run, folder)


@pytest.mark.parametrize("name", ["sounds/mine.wav", "aai.yaml"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("audio: mine")
    with pytest.raises(BadConfig, match="the folder holds other files") as error:
        story.prepare(tmp_path)
    assert error.value.uri == str(tmp_path) and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(BadConfig, match="it cannot be used"):
        story.prepare(tmp_path / "demo")
