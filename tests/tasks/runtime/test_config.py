"""A wrong key is named, the profile lies below the file, and paths are meant from the file's folder."""

import pytest

from aai.errors import BadConfig
from tasks.runtime.config import load_config, make_config


def test_the_profile_lies_below_what_is_said():
    config = make_config(profile="tiny", render={"steps": 7})
    assert (config.render.steps, config.render.guidance, config.align.method) == (7, 4.0, "trained")
    assert make_config(profile="sd15").models.audio.name == "laion/clap-htsat-unfused"


def test_one_model_of_a_profile_can_be_replaced():
    config = make_config(models={"audio": "someone/clap@" + "a" * 40})
    assert (config.models.audio.name, config.models.audio.revision) == ("someone/clap", "a" * 40)
    assert config.models.diffusion.name.endswith("pipeline")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"fits": {}}, "fits: there is no such key"),
        ({"fit": {"step": 3}}, "fit.step: there is no such key"),
        ({"fit": {"steps": -1}}, "fit.steps: Input should be greater than or equal to 0"),
        ({"profile": "huge"}, "profile: there is no 'huge': choose one of tiny, sd15, sdxl"),
        ({"pools": {"fit": {"workers": 3}}}, "workers"),
    ],
)
def test_a_wrong_key_is_named(keys, sentence):
    with pytest.raises(BadConfig, match=sentence):
        make_config(**keys)


def test_paths_are_meant_from_the_folder_of_the_file(tmp_path):
    path = tmp_path / "aai.yaml"
    path.write_text("audio: sounds\nimages: [pictures, s3://bucket/more, /elsewhere]\n")
    config = load_config(path, {"seed": 3})
    assert config.audio == (str(tmp_path / "sounds"),)
    assert config.images == (str(tmp_path / "pictures"), "s3://bucket/more", "/elsewhere")
    assert (config.workspace, config.seed) == (str(tmp_path / "bank"), 3)


@pytest.mark.parametrize("text", ["audio: [", "just a word", "\xff\xfe"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    path = tmp_path / "aai.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadConfig, match="aai.yaml"):
        load_config(path)


def test_a_missing_file_comes_with_the_remedy(tmp_path):
    with pytest.raises(BadConfig, match="aai init"):
        load_config(tmp_path / "none.yaml")


def test_a_stage_may_have_workers_of_its_own():
    config = make_config(pool={"num_workers": 3}, pools={"fit": {"gpus_per_worker": 1}})
    assert (config.pool_of("fit").num_workers, config.pool_of("fit").gpus_per_worker) == (3, 1)
    assert (config.pool_of("fit").slice_size, config.pool_of("embed_audio").slice_size) == (64, 256)
    assert make_config(pool={"slice_size": 5}).pool_of("fit").slice_size == 5
