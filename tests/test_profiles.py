"""Profiles name models that exist or are pinned, and nothing else."""

from pathlib import Path

import pytest

from aai.models.revisions import resolve_revision
from aai.profiles import PROFILES, ModelName
from tasks.stages import make_config


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_a_valid_configuration_with_resolvable_models(profile):
    models = make_config(profile=profile).models
    for model in (models.audio, models.image_text, models.diffusion):
        name, revision = resolve_revision(model.name, model.revision)
        assert name and revision


def test_the_tiny_profile_is_shipped_whole():
    models = make_config(profile="tiny").models
    folders = [models.audio.name, models.image_text.name, models.diffusion.name, models.aligner, models.mapper]
    assert all(Path(folder).is_dir() for folder in [*folders, models.judge.folder])


def test_a_model_may_be_written_as_name_and_revision():
    models = make_config(models={"audio": "someone/clap@" + "a" * 40}).models
    assert models.audio == ModelName(name="someone/clap", revision="a" * 40)


@pytest.mark.parametrize(("role", "dtype"), [("diffusion", "bfloat16"), ("audio", "bfloat16"), ("mapper", "float32")])
def test_the_numeric_type_holds_for_the_large_models(role, dtype):
    assert make_config(models={"dtype": "bfloat16"}).models.dtype_of(role) == dtype
