"""`aai imagine`: one recording, one picture, with a profile's models or with those of a bank."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from aai.errors import BadConfig, BadItem
from aai.media.images import ImageOptions, decode
from aai.media.options import IngestOptions
from aai.profiles import PROFILES
from aai.tiny.judge import load_judge
from aai.tiny.vocabulary import PHENOMENA
from flows.app.cli import app
from flows.app.imagine import first_window, imagine
from tasks.render import RenderSectionOptions
from tasks.runtime.models import open_diffusion
from tasks.runtime.run import Run
from tasks.stages import load_config, make_config, open_run
from tests.bank import GENERATED
from tests.collection import build, write_collection
from tests.models.shrunk import write_sd15

ROUNDING = 2  # grey levels: sums of numbers in another order
ALIGN = {"method": "labels", "labels": list(PHENOMENA), "audio_prompt": "*"}  # a short context: the default is too long
TRAINED = {"train_mapper": {"method": "learned", "steps": 2, "batch_size": 4}, "align": ALIGN}
KEYS = {
    "audio": "sounds", "images": "images", "fit": {"method": "mapper"}, "retrieve": {"num_neighbours": 2},
    "confidence": {"method": "none"},
    "pool": {"num_workers": 0}, "render": {"steps": 2, "guidance": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """A collection, the configuration of a bank with its own mapper and without a trained aligner, and the bank."""
    folder = write_collection(tmp_path_factory.mktemp("imagine") / "collection")
    (folder / "aai.yaml").write_text(yaml.safe_dump(KEYS | TRAINED))
    build(run_of(folder))
    return folder


@pytest.fixture
def here(collection, tmp_path, monkeypatch) -> Path:
    """An empty folder to write pictures to."""
    monkeypatch.chdir(tmp_path)
    return collection


def run_of(folder: Path) -> Run:
    return open_run(load_config(folder / "aai.yaml"))


def call(*arguments: str):
    return CliRunner().invoke(app, ["imagine", *arguments])


def pixels_of(path: str) -> np.ndarray:
    return decode(Path(path).read_bytes(), path, ImageOptions()).pixels


def rendered(run: Run, prompt: str, cue: torch.Tensor, seed: int = 0) -> np.ndarray:
    """A picture with these token vectors, by the run's own model and options."""
    options = run.config.options(RenderSectionOptions).of_jobs
    pictures: np.ndarray = open_diffusion(run.config).render([prompt], [seed], cue[None], options=options)
    return pictures[0]


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two pictures, in grey levels."""
    return int(np.abs(one.astype(int) - other).max())


def cue_of(run: Run, file: str) -> torch.Tensor:
    """The cue in the bank of a file's clip."""
    with run.query() as query:
        [row] = query.table(
            f"SELECT u.vector, u.num_tokens FROM cues u JOIN present_clips c USING (clip_id) WHERE c.uri LIKE '%{file}'"
        ).to_pylist()
    return torch.tensor(row["vector"]).view(row["num_tokens"], -1)


def test_without_a_configuration_the_models_of_a_profile_draw_what_is_heard(here):
    done = call(str(here / "sounds" / "fire-0.9.flac"), "a photo of *", "-o", "fire.png")
    assert done.exit_code == 0 and "wrote fire.png" in done.output, done.output
    assert "note: with the models of the profile tiny: there is no aai.yaml here, and -c names none" in done.output
    assert PHENOMENA[int(load_judge().read(pixels_of("fire.png")[None]).phenomenon.argmax())] == "fire"
    with Image.open("fire.png") as picture:
        xmp = picture.info["xmp"]
    assert GENERATED in xmp and b"a photo of *" in xmp and b'"seed": 0' in xmp and b'"steps": 25' in xmp


def test_with_a_configuration_the_banks_own_mapper_and_aligner_are_used(here):
    run, sound = run_of(here), str(here / "sounds" / "rain-0.9.flac")
    done = call(sound, "a * city", "-o", "own.png", "-c", str(here / "aai.yaml"), "--seed", "7")
    assert done.exit_code == 0, done.output
    cue = cue_of(run, "rain-0.9.flac")
    assert difference(pixels_of("own.png"), rendered(run, "a * city", cue, seed=7)) <= ROUNDING
    shipped = ("--set", "train_mapper.method=shipped", "--set", "align.method=trained")
    call(sound, "a * city", "-o", "shipped.png", "-c", str(here / "aai.yaml"), "--seed", "7", *shipped)
    assert difference(pixels_of("shipped.png"), pixels_of("own.png")) > 20


def test_every_name_of_a_prompt_gets_the_whole_cue_of_the_clip(here):
    run, prompt = run_of(here), "a photo of *rain and *fire:0.5 at *"
    done = call(str(here / "sounds" / "rain-0.9.flac"), prompt, "-o", "all.png", "-c", str(here / "aai.yaml"))
    assert done.exit_code == 0, done.output
    cue = cue_of(run, "rain-0.9.flac")
    assert cue.shape[0] > 1  # so that vectors of different names could be mixed up
    assert difference(pixels_of("all.png"), rendered(run, prompt, torch.cat([cue] * 3))) <= ROUNDING


def test_a_configuration_in_the_folder_is_used_and_named(here, monkeypatch):
    """As every other command does; a profile that is asked for goes before it."""
    sound = "sounds/rain-0.9.flac"
    monkeypatch.chdir(here)
    done = call(sound, "a * city", "-o", "found.png")
    assert done.exit_code == 0 and "note: with the configuration aai.yaml of this folder" in done.output
    expected = rendered(run_of(here), "a * city", cue_of(run_of(here), sound))
    assert difference(pixels_of("found.png"), expected) <= ROUNDING
    done = call(sound, "a * city", "-o", "profile.png", "--profile", "tiny", "--set", "render.steps=2")
    assert done.exit_code == 0 and "note" not in done.output
    assert difference(pixels_of("profile.png"), pixels_of("found.png")) > 20
    done = call(sound, "-c", "aai.yaml", "--profile", "tiny")
    assert done.exit_code == 2 and "aai: --profile: aai.yaml has a profile of its own" in " ".join(done.output.split())


def test_changes_apply_with_and_without_a_configuration(here):
    sound = str(here / "sounds" / "fire-0.2.flac")
    quick = ("--set", "render.steps=1", "--set", "render.guidance=1", "--set", "render.width=32")
    for number, source in enumerate(((), ("-c", str(here / "aai.yaml")))):
        for _ in range(2):  # the second picture takes the place of the first, which is ours
            done = call(sound, "-o", f"new/{number}.webp", *quick, *source)
            assert done.exit_code == 0, done.output
        assert pixels_of(f"new/{number}.webp").shape == (64, 32, 3)


def test_a_bank_whose_mapper_is_not_trained_says_what_to_run(here):
    changes = ("--set", "workspace=elsewhere")
    done = call(str(here / "sounds" / "fire-0.2.flac"), "-c", str(here / "aai.yaml"), *changes)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert "train_mapper: the mapper is not trained yet: run `aai build`" in " ".join(done.output.split())


def test_without_a_mapper_the_captions_that_are_heard_are_the_cue(here):
    sound = str(here / "sounds" / "fire-0.9.flac")
    done = call(sound, "a photo of *", "-o", "fire.png", "--set", "fit.method=captions")
    assert done.exit_code == 0, done.output
    assert PHENOMENA[int(load_judge().read(pixels_of("fire.png")[None]).phenomenon.argmax())] == "fire"


def test_without_a_bank_real_models_draw_what_is_heard(here, tmp_path):
    """A profile without mapper and aligner, whose models are those of SD 1.5, shrunk: a new user's first command."""
    pipeline = write_sd15(tmp_path / "sd15")
    settings = {
        "models.diffusion": str(pipeline), "models.mapper": "null", "models.aligner": "null", "render.steps": 2,
        "models.audio": PROFILES["tiny"]["models"]["audio"],
        "models.image_text": PROFILES["tiny"]["models"]["image_text"],
        "align.method": "labels",
        "align.labels": "[rain, fire, a strong fire]", "align.audio_prompt": "'*'", "ingest.audio.window_s": 5,
        "models.dtype": "float32",
    }  # fmt: skip
    changes = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    done = call(str(here / "sounds" / "fire-0.9.flac"), "a photo of *", "-o", "real.png", "--profile", "sd15", *changes)
    assert done.exit_code == 0, done.output
    assert pixels_of("real.png").shape == (64, 64, 3)


@pytest.fixture
def tiny(tmp_path) -> Run:
    return open_run(make_config(workspace=str(tmp_path / "bank"), **PROFILES["tiny"]))


@pytest.mark.parametrize(
    ("prompt", "output", "key", "sentence"),
    [
        ("a photo of *", "text.txt/picture.png", "--output", "nothing can be written to"),
        ("a photo of *", "folder.png", "--output", "it is a folder"),
        ("a photo of *", "holiday.png", "--output", "it exists, and this command did not write it"),
        ("a photo of *", "a\0.png", "--output", "it cannot be written"),
        ("\udcff *", "picture.png", "prompt", "is not UTF-8"),
        ("a photo of *", "picture.gif", "--output", "'.gif' is not a suffix of a picture"),
        ("a photo", "picture.png", "prompt", "'a photo' has no *"),
    ],
)
def test_what_cannot_be_written_or_rendered_is_refused_before_any_work(here, tiny, prompt, output, key, sentence):
    """The recording does not even exist."""
    Path("text.txt").touch()
    Path("folder.png").mkdir()
    Image.new("RGB", (1, 1)).save("holiday.png")
    with pytest.raises(BadConfig) as error:
        imagine(tiny, Path("none.wav"), prompt, 0, Path(output))
    assert error.value.key == key and sentence in error.value.sentence
    if "\0" in output or not prompt.isprintable():
        return  # no shell gives these, or only in bytes
    done = call("none.wav", prompt, "-o", output)
    assert done.exit_code == 2 and sentence in " ".join(done.output.split()) and "Traceback" not in done.output


def test_a_recording_that_cannot_be_used_is_named(here, tiny):
    soundfile.write("silent.wav", np.zeros(16_000, np.float32), 16_000)
    Path("text.wav").write_text("not a sound")
    for name in ("none.wav", "silent.wav", "text.wav"):
        with pytest.raises(BadItem) as error:
            imagine(tiny, Path(name), "a photo of *", 0, Path("picture.png"))
        assert error.value.uri == name
    assert not Path("picture.png").exists()


def test_the_first_window_that_is_not_silent_is_used(here, tiny):
    rate_hz, options = 16_000, tiny.config.options(IngestOptions).audio
    tone = np.sin(np.arange(3 * rate_hz) / 9).astype(np.float32) / 2
    soundfile.write("late.wav", np.concatenate([np.zeros(6 * rate_hz, np.float32), tone]), rate_hz)
    wave, rate = first_window(Path("late.wav"), options)
    assert rate == rate_hz and np.abs(wave).max() > 0.4
