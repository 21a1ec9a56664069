"""Prompts of a comparison are texts or jobs; what has no effect in a comparison is refused."""

from pathlib import Path

import pytest

from tasks.evaluate.options import ComparisonOptions, load_comparison
from tasks.evaluate.prompts import is_edit, job_keys, name_of, true_masks_of

EDIT = {"mode": "edit", "source_prompt": "a city", "prompt": "a * city"}
PHOTO = EDIT | {"source_images": "photos", "true_masks": "truth/{label}", "name": "photo"}


def test_edits_have_their_masks_written_and_a_name_of_their_own():
    assert job_keys("a *", {}) == {"prompt": "a *"} and not is_edit("a *") and not is_edit({"prompt": "a *"})
    assert job_keys(EDIT, {})["edit"] == {"write_mask": True} and is_edit(EDIT)
    keys = job_keys(PHOTO | {"edit": {"threshold": 0.3}}, {})
    assert keys["edit"] == {"threshold": 0.3, "write_mask": True} and "true_masks" not in keys
    assert (name_of(PHOTO), name_of(EDIT), true_masks_of(PHOTO)) == ("photo", "a * city", ("truth/{label}",))
    assert "edit" not in job_keys(EDIT | {"mode": "stylise"}, {})


def test_a_method_may_change_some_options_of_edits():
    keys = job_keys(EDIT | {"edit": {"threshold": 0.3, "grow": 1}}, {"edit": {"threshold": 0.5}, "steps": 8})
    assert keys["edit"] == {"threshold": 0.5, "grow": 1, "write_mask": True} and keys["steps"] == 8
    assert job_keys(EDIT, {"edit": 3})["edit"] == 3  # to be refused as a job


def test_paths_are_relative_to_the_file(tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text("prompts: {mode: edit, source_prompt: a, prompt: '*', source_images: [p, 's3://b'], true_masks: t}")
    [prompt] = load_comparison(path, {}).prompts
    assert prompt["source_images"] == [str(tmp_path / "p"), "s3://b"] and prompt["true_masks"] == [str(tmp_path / "t")]
    assert Path(load_comparison(path, {}).output).parent == tmp_path


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ([EDIT | {"seeds": 3}], "seeds has no effect here: `seeds` of the comparison apply"),
        ([EDIT | {"cues": "label = 'rain'"}], "cues has no effect here: select clips"),
        ([EDIT, "a * city"], "two prompts are called 'a \\* city': give one of them another `name`"),
        ([EDIT | {"true_masks": "t"}], "true_masks are for edits of photos"),
        ([PHOTO | {"prompt": "a city"}], "write one prompt with one"),
    ],
)
def test_what_has_no_effect_is_refused(prompts, sentence):
    with pytest.raises(ValueError, match=sentence):
        ComparisonOptions(prompts=prompts)


def test_photos_are_drawn_from_some():
    assert ComparisonOptions(prompts=[PHOTO], photos_per_clip=1).photos_per_clip == 1
    with pytest.raises(ValueError, match="photos_per_clip: no prompt has source_images"):
        ComparisonOptions(prompts=[EDIT], photos_per_clip=1)
