"""Job files that edit and restyle: what is said of sources, and where a sentence says that it cannot be."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aai.edit.options import STYLISED, EditOptions
from aai.errors import BadConfig
from aai.identity import seed_of
from aai.jobs.job import Job, candidate_seeds
from aai.jobs.jobfile import load_jobs, make_jobs
from aai.jobs.selection import CueFilter
from aai.models.options import RenderOptions

ROOT = Path(__file__).parents[2]
OPTIONS = RenderOptions(steps=7, width=64, scheduler="euler")


def one(**keys):
    return make_jobs([{"prompt": "a * city"} | keys], OPTIONS)[0]


def written(tmp_path, text: str):
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    return load_jobs(path, OPTIONS)


def test_a_job_without_a_mode_generates_and_has_no_source():
    job = one()
    assert (job.mode, job.source_prompt, job.source_images, job.source_masks) == ("generate", None, (), ())
    assert not job.has_source and not job.is_seedless and job.edit == EditOptions()


def test_what_an_edit_does_not_say_is_as_the_defaults_have_it_and_then_as_the_mode_has_it(tmp_path):
    text = """
        defaults: {source_prompt: a city, edit: {strength: 0.6, grow: 2}}
        jobs:
          - {prompt: "a * city"}
          - {mode: edit, prompt: "a * city", edit: {grow: 3, reweight: {city: 2}}}
          - {mode: stylise, prompt: "a city in the style of *", edit: {preserve: latents}}
          - {mode: stylise, prompt: "a city in the style of *", source_prompt: }
    """
    plain, edit, style, alone = written(tmp_path, text)
    assert (plain.mode, plain.has_source, plain.photos) == ("generate", False, ())
    assert edit.edit == EditOptions(strength=0.6, grow=3, reweight={"city": 2})
    assert style.edit == EditOptions(**STYLISED | {"strength": 0.6, "grow": 2, "preserve": "latents"})
    assert edit.source_prompt == style.source_prompt == "a city" and not alone.has_source


def test_restyling_has_defaults_of_its_own():
    stylise = {"mode": "stylise", "source_prompt": "a city"}
    assert one(**stylise).edit == EditOptions(**STYLISED) != EditOptions()
    assert one(mode="edit", source_prompt="a city").edit == EditOptions()
    assert one(**stylise, edit={"self_fraction": 0.9}).edit.self_fraction == 0.9


def test_paths_are_meant_from_the_folder_of_the_job_file_and_urls_from_nowhere(tmp_path):
    text = """
        - mode: edit
          prompt: "a * city"
          source_prompt: a city
          source_images: [photos/*.jpg, ../more, /data/one.png, "s3://bucket/photos", "~/mine.png", "~no user/a"]
          source_masks: masks
    """
    [job] = written(tmp_path, text)
    folder = str(tmp_path)
    assert job.source_images == (
        f"{folder}/photos/*.jpg",
        f"{folder}/../more",
        "/data/one.png",
        "s3://bucket/photos",
        str(Path.home() / "mine.png"),
        f"{folder}/~no user/a",
    )
    assert job.source_masks == (f"{folder}/masks",)


def test_paths_from_python_are_left_alone():
    assert one(mode="edit", source_prompt="a city", source_images="photos").source_images == ("photos",)


def test_no_photos_are_nothing_said():
    nothing = {"source_images": None, "source_masks": None}
    job = one(mode="edit", source_prompt="a city", edit={"inversion": "direct"}, **nothing)
    assert job.has_source and job.photos == () and not job.is_seedless


def test_photos_that_are_inverted_have_one_picture_each_whatever_the_defaults_say(tmp_path):
    text = """
        defaults: {seeds: 3, mode: edit, source_prompt: a city, source_images: photos, prompt: "a * city"}
        jobs: [{edit: {inversion: direct}}, {}, {source_images: []}, {mode: generate}]
    """
    direct, virtual, generated, plain = written(tmp_path, text)
    assert direct.is_seedless and direct.seeds_under(5) == [0]
    seeds = [seed_of(5, "render", str(number), "noise") for number in range(3)]
    assert [job.seeds_under(5) for job in (virtual, generated, plain)] == [seeds] * 3
    assert [bool(job.photos) for job in (direct, virtual, generated, plain)] == [True, True, False, False]


def test_photos_keep_their_size_whatever_the_configuration_says_of_pictures():
    assert one(mode="edit", source_prompt="a city", source_images="photos").options == OPTIONS


PHOTOS = "mode: edit, source_prompt: a city, source_images: photos"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("mode: paint", "mode: 'paint': input should be 'generate', 'edit' or 'stylise'"),
        ("source_prompt: a city", "source_prompt: generated pictures have no source: set `mode` to edit or"),
        ("source_images: photos", "source_images: generated pictures have no source"),
        ("source_masks: masks", "source_masks: generated pictures have no source"),
        ("edit: {}", "edit: generated pictures have no source"),
        ("mode: edit", "source_prompt: it is missing: describe the source image, such as 'a city'"),
        ("mode: stylise, source_images: photos", "source_prompt: it is missing"),
        ("mode: stylise, edit: {strength: 0.5}", "edit: without a source_prompt there is no source to edit"),
        ("mode: edit, source_prompt: a city, source_masks: masks", "source_masks: there are no `source_images` that"),
        ("mode: stylise, source_masks: masks", "source_masks: there are no `source_images` that they could belong to"),
        (
            f"{PHOTOS}, source_masks: m, edit: {{preserve: none}}",
            "source_masks: masks have no effect if nothing is preserved: set",
        ),
        (f"{PHOTOS}, width: 64", "width: photos keep their size: leave it out"),
        (f"{PHOTOS}, height: 64", "height: photos keep their size: leave it out"),
        (f"{PHOTOS}, scheduler: euler", "scheduler: photos are always edited with ddim: leave it out"),
        (f"{PHOTOS}, seeds: 2, edit: {{inversion: direct}}", "seeds: with edit.inversion: direct every seed gives"),
        (
            "mode: edit, source_prompt: a *",
            "source_prompt: 'a *' has a *, which only `prompt` may have: describe",
        ),
        (
            "mode: edit, source_prompt: 'a {'",
            "source_prompt: 'a {' has an unmatched brace: write {{ for { and }} for }",
        ),
        (
            "mode: edit, source_prompt: 'a {label.x}'",
            "source_prompt: 'a {label.x}' has {label.x}: name a metadata column",
        ),
        ("mode: edit, source_prompt: 5", "source_prompt: 5 is not a text: write one"),
        (f"mode: edit, source_prompt: {'x' * 2001}", "source_prompt: the text has 2,001 characters, more than 2,000"),
        ("mode: edit, source_prompt: a, source_images: 5", "source_images: 5: write a text, or a list of texts"),
        ("mode: edit, source_prompt: a, source_images: [5]", "source_images.0: 5 is not a text: write one"),
        ("mode: edit, source_prompt: a, source_images: ''", "source_images.0: '': string should have at least 1"),
        ("mode: edit, source_prompt: a, edit: strong", "edit: 'strong': write strength, cross_fraction, self_fraction"),
        (
            "mode: edit, source_prompt: a, edit: {strenght: 1}",
            "edit.strenght: there is no such key: did you mean stren",
        ),
        ("mode: edit, source_prompt: a, edit: {strength: 0}", "edit.strength: 0: input should be greater than 0"),
        ("mode: edit, source_prompt: a, edit: {threshold: 1}", "edit.threshold: 1: input should be less than 1"),
        ("mode: edit, source_prompt: a, edit: {grow: .inf}", "edit.grow: inf: input should be a finite number"),
        ("mode: edit, source_prompt: a, edit: {mask: hand}", "edit.mask: 'hand': input should be 'difference' or"),
        (
            "mode: edit, source_prompt: a, edit: {reweight: city}",
            "edit.reweight: 'city': write words below it, with their factors",
        ),
        ("mode: edit, source_prompt: a, edit: {reweight: {city: much}}", "edit.reweight.city: 'much': input should be"),
        ("mode: edit, source_prompt: a, edit: {reweight: {city: .nan}}", "edit.reweight.city: nan: input should be a"),
    ],
)
def test_what_is_said_wrongly_of_a_source_gets_a_sentence(tmp_path, keys, said):
    with pytest.raises(BadConfig) as caught:
        written(tmp_path, f"- {{prompt: 'a * city', {keys}}}")
    assert str(caught.value).startswith(f"{tmp_path / 'jobs.yaml'}: job 1: ") and said in str(caught.value)


def test_a_wrong_edit_among_the_defaults_gets_a_sentence_too(tmp_path):
    with pytest.raises(BadConfig, match="edit: 5: write strength"):
        written(tmp_path, "{defaults: {edit: 5, mode: edit, source_prompt: a}, jobs: [{prompt: '*'}]}")


def test_reading_job_files_loads_nothing_heavy():
    probe = "import sys, aai.jobs.jobfile; print(*sorted({'torch', 'numpy', 'pyarrow', 'duckdb'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_prompt_of_the_plain_model_may_select_the_clips_whose_metadata_fills_it():
    job = one(prompt="a photo of {label}", cues={"labels": "rain"})
    assert job.filters_of("a photo of {label}") == {"cues": CueFilter(labels=("rain",))}
    with pytest.raises(BadConfig) as error:
        one(prompt="a photo", cues={"labels": "rain"})
    assert error.value.key == "jobs: job 1: cues"


JOBS_MD = (ROOT / "docs" / "JOBS.md").read_text()
README = (ROOT / "README.md").read_text()


EXAMPLES = re.findall(r"```yaml\n(.*?)```", JOBS_MD + README, re.DOTALL)


@pytest.mark.parametrize("text", [text for text in EXAMPLES if "pairs:" not in text])
def test_the_examples_of_the_docs_are_good_job_files(text):
    assert make_jobs(yaml.safe_load(text), RenderOptions())


def table_of(title: str) -> dict[str, list[str]]:
    """The rows of the table below a heading: of each key in its first cell the other cells."""
    rows = re.findall(r"^\| (`.*?) \|$", JOBS_MD.split(f"# {title}\n")[1].split("\n#")[0], re.MULTILINE)
    cells = [row.split(" | ") for row in rows]
    return {key: others for first, *others in cells for key in re.findall(r"`(\w+)`", first)}


def test_the_docs_tell_every_key_of_a_job_and_its_default():
    told = table_of("Keys")
    known = {"prompt"} | Job.model_fields.keys() | RenderOptions.model_fields.keys()
    assert told.keys() == known - {"options", "position", "file"}
    for key in ("steps", "guidance", "format", "quality"):
        assert told[key][0].strip("`") == str(getattr(RenderOptions(), key))


def test_the_docs_tell_every_key_of_an_edit_and_its_defaults():
    told = table_of("Under `edit`")
    assert told.keys() == EditOptions.model_fields.keys()
    for key in told.keys() - {"reweight", "cue_guidance"}:
        defaults = [getattr(options, key) for options in (EditOptions(), EditOptions(**STYLISED))]
        texts = [str(each).lower() if isinstance(each, bool) else str(each) for each in defaults]
        assert [cell.strip("`") for cell in told[key][:2]] == texts, key


def test_candidates_need_seeds_that_differ_and_a_measure_needs_candidates():
    assert (one().candidates, one().chosen_by) == (1, None)
    assert one(candidates=4, chosen_by="clip_score").chosen_by == "clip_score"
    with pytest.raises(BadConfig, match="all candidates are the same") as error:
        one(mode="stylise", source_prompt="a city", source_images="photos", candidates=2, edit={"inversion": "direct"})
    assert error.value.key == "jobs: job 1: candidates"
    for wrong in ({"chosen_by": "judge"}, {"candidates": 2, "chosen_by": "taste"}):
        with pytest.raises(BadConfig) as error:
            one(**wrong)
        assert error.value.key == "jobs: job 1: chosen_by"
    for number in (0, 65, "many"):
        with pytest.raises(BadConfig) as error:
            one(candidates=number)
        assert error.value.key == "jobs: job 1: candidates"


def test_seeds_of_candidates_follow_from_the_pictures_alone():
    seeds = candidate_seeds(7, 4)
    assert seeds[0] == 7 and seeds[:2] == candidate_seeds(7, 2) and len(set(seeds) | set(candidate_seeds(8, 4))) == 8
    assert seeds[1] == seed_of(7, "render", "", "candidate", 1)
