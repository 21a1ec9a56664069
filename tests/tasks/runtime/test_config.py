"""A wrong key is named, keys override the profile's, and relative paths are resolved against the file's folder."""

import pytest

from aai.align.options import AlignOptions
from aai.errors import BadConfig
from aai.options import Options
from tasks.render import RenderSectionOptions
from tasks.runtime.config import load_keys, merge, parse_change
from tasks.stages import STAGES, load_config, make_config


def test_keys_override_those_of_the_profile():
    config = make_config(profile="tiny", render={"steps": 7})
    render = config.options(RenderSectionOptions)
    assert (render.steps, render.guidance, config.options(AlignOptions).method) == (7, 4.0, "trained")
    assert make_config(profile="sd15").models.audio.name == "laion/clap-htsat-unfused"


def test_one_model_of_a_profile_can_be_replaced():
    config = make_config(models={"audio": "someone/clap@" + "a" * 40})
    assert (config.models.audio.name, config.models.audio.revision) == ("someone/clap", "a" * 40)
    assert config.models.diffusion.name.endswith("pipeline")


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"fits": {}}, "fits"),
        ({"sections": {}}, "sections"),
        ({"fit": {"step": 3}}, "fit.step"),
        ({"fit": {"steps": -1}}, "fit.steps"),
        ({"fit": 3}, "fit"),
        ({"ingest": {"audio": {"window": 1}}}, "ingest.audio.window"),
        ({"pool": {"workers": 3}}, "pool.workers"),
        ({"profile": "huge"}, "profile"),
        ({"profile": ["tiny"]}, "profile"),
        ({"seed": -1}, "seed"),
        ({"workspace": " "}, "workspace"),
        ({"models": {"dtype": "float8"}}, "models.dtype"),
        ({"models": {"judge": "tiny"}}, "models.judge"),
    ],
)
def test_the_error_names_a_wrong_key(keys, key):
    with pytest.raises(BadConfig) as error:
        make_config(**keys)
    assert error.value.key == key


@pytest.mark.parametrize("stage", ["fitt", "aligned_vectors", "learn"])
def test_a_key_of_pools_is_the_name_of_a_stage(stage):
    with pytest.raises(BadConfig, match="no such stage: choose from .*train_mapper, fit, confidence, render") as error:
        make_config(pools={stage: {"num_workers": 1}})
    assert error.value.key == f"pools.{stage}"


@pytest.mark.parametrize("keys", [{"workers": 3}, {"gpus_per_worker": -1}])
def test_options_of_one_stages_workers_are_checked(keys):
    with pytest.raises(BadConfig) as error:
        make_config(pools={"fit": keys})
    [name] = keys
    assert error.value.key == f"pools.fit.{name}"


def test_an_error_names_all_wrong_keys():
    with pytest.raises(BadConfig) as error:
        make_config(fit={"steps": -1}, seed=-1, pools={"fitt": {}})
    assert error.value.key == "fit.steps" and all(key in str(error.value) for key in ("seed: ", "pools.fitt: "))


def test_every_stage_may_have_its_own_workers():
    for stage in STAGES:
        config = make_config(pools={stage.name: {"num_workers": 3}})
        assert config.pool_of(stage.name, 10).num_workers == 3
        assert make_config().pool_of(stage.name, 10).num_workers is None


def test_the_options_of_a_stages_workers_override_those_of_all():
    config = make_config(pool={"num_workers": 3}, pools={"fit": {"gpus_per_worker": 1}})
    pool = config.pool_of("fit", 64)
    assert (pool.num_workers, pool.gpus_per_worker, pool.slice_size) == (3, 1, 64)
    assert make_config(pool={"slice_size": 5}).pool_of("fit", 64).slice_size == 5


def test_options_that_no_stage_has_are_a_mistake_of_the_caller():
    class Others(Options):
        pass

    with pytest.raises(LookupError, match="no stage of this run has Others"):
        make_config().options(Others)


def test_relative_paths_are_resolved_against_the_folder_of_the_file(tmp_path):
    path = tmp_path / "aai.yaml"
    path.write_text("audio: sounds\nimages: [pictures, s3://bucket/more, /elsewhere]\nmetadata: said.csv\n")
    config = load_config(path, {"seed": 3})
    assert config.audio == (str(tmp_path / "sounds"),)
    assert config.images == (str(tmp_path / "pictures"), "s3://bucket/more", "/elsewhere")
    assert config.metadata == (str(tmp_path / "said.csv"),)
    assert (config.workspace, config.seed) == (str(tmp_path / "bank"), 3)


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    path = tmp_path / "aai.yaml"
    path.write_text("audio: ~/sounds\nimages: [~no user/pictures]\nmetadata: ~/said.csv\nworkspace: ~/bank\n")
    config = load_config(path)
    assert (config.audio, config.metadata) == (("/home/me/sounds",), ("/home/me/said.csv",))
    assert config.workspace == "/home/me/bank"
    assert config.images == (str(tmp_path / "~no user" / "pictures"),)


def test_a_model_in_the_folder_of_the_file_is_found_from_everywhere(tmp_path):
    (tmp_path / "ear").mkdir()
    hub = "someone/ear@" + "a" * 40
    path = tmp_path / "aai.yaml"
    path.write_text(f"models: {{joint: ear, audio_judge: {hub}, judge: {{kind: tiny, folder: ear}}, aligner: nowhere}}")
    models = load_config(path).models
    assert models.joint and models.audio_judge and models.judge
    assert models.joint.name == models.judge.folder == str(tmp_path / "ear")
    assert (models.audio_judge.name, models.aligner) == ("someone/ear", "nowhere")


def test_included_files_give_what_the_file_itself_leaves_out(tmp_path):
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "one.yaml").write_text("{fit: {steps: 3, rows_per_step: 2}, audio: sounds}")
    (tmp_path / "two.yaml").write_text("# nothing but a remark")
    path = tmp_path / "aai.yaml"
    path.write_text("{include: [swept/one.yaml, two.yaml], fit: {steps: 5}}")
    config = load_config(path)
    assert config.sections["fit"].model_dump(include={"steps", "rows_per_step"}) == {"steps": 5, "rows_per_step": 2}
    assert config.audio == (str(tmp_path / "swept" / "sounds"),) and config.include == ()
    assert config.workspace == str(tmp_path / "bank")
    assert load_config(path, {"fit": {"rows_per_step": 1}}).sections["fit"].model_dump()["rows_per_step"] == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [("include: 3", "aai.yaml"), ("include: [none.yaml]", "none.yaml"), ("include: aai.yaml", "aai.yaml")],
)
def test_what_cannot_be_included_is_named(tmp_path, text, named):
    (tmp_path / "aai.yaml").write_text(text)
    with pytest.raises(BadConfig) as error:
        load_config(tmp_path / "aai.yaml")
    assert error.value.uri == str(tmp_path / named)
    with pytest.raises(BadConfig, match="only the file of a configuration includes others") as error:
        make_config(include=["a.yaml"])
    assert error.value.key == "include"


def test_a_section_without_any_key_has_its_defaults(tmp_path):
    path = tmp_path / "aai.yaml"
    path.write_text("fit:\n  # steps: 24\nmodels:\ningest:\n  audio:\n")
    assert load_config(path).sections == make_config().sections


def test_an_error_in_a_file_names_the_file_and_the_key(tmp_path):
    path = tmp_path / "aai.yaml"
    path.write_text("fit: {step: 3}\n")
    with pytest.raises(BadConfig, match="there is no such key") as error:
        load_config(path)
    assert (error.value.uri, error.value.key) == (str(path), "fit.step")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fits: {steps: 3}", "fits: there is no such key: did you mean fit"),
        ("audios: sounds", "audios: there is no such key: did you mean audio"),
        ("xyz: 3", "xyz: there is no such key: `aai init` writes all there are"),
        ("fit: {stpes: 3}", "fit.stpes: there is no such key: did you mean steps"),
        ("ingest: {audio: {windows: 3}}", "ingest.audio.windows: there is no such key: did you mean window_s"),
        ("fit: {steps: many}", "fit.steps: 'many': input should be a valid integer"),
        ("fit: 3", "fit: 3 is not a section: write its keys and values below it"),
        (
            "audio: [*.wav]",
            "not a YAML file: line 1, column 9: expected alphabetic or numeric character, but found '.'; "
            "put quotes around a text that begins with *",
        ),
    ],
)
def test_a_mistake_in_a_file_comes_with_a_remedy(tmp_path, text, sentence):
    path = tmp_path / "aai.yaml"
    path.write_text(text)
    with pytest.raises(BadConfig) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: {sentence}")


@pytest.mark.parametrize("text", ["audio: [", "just a word", "1: 2", "\xff\xfe"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    path = tmp_path / "aai.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadConfig) as error:
        load_config(path)
    assert error.value.uri == str(path)


def test_a_missing_file_comes_with_the_remedy(tmp_path):
    with pytest.raises(BadConfig, match="aai init") as error:
        load_keys(tmp_path / "none.yaml", {})
    assert error.value.uri == str(tmp_path / "none.yaml")


def test_merging_goes_into_sections_and_replaces_lists():
    below = {"fit": {"steps": 1, "templates": ["a *"]}, "seed": 1}
    above = {"fit": {"templates": ["the *"]}, "audio": "sounds"}
    assert merge(below, above) == {"fit": {"steps": 1, "templates": ["the *"]}, "seed": 1, "audio": "sounds"}


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("pools: 5", "pools", "5 is not a section"),
        ("audio: ''", "audio", "it is empty"),
        ("images: [sounds, ' ']", "images", "it is empty"),
        ("metadata: ''", "metadata", "it is empty"),
        ("workspace: ''", "workspace", "it is empty"),
        ("profile: [a]", "profile", "there is no ['a']"),
        ("fit: {steps: 3, steps: 4}", "fit.steps", "line 1: it is given a second time"),
        ("fit: {method: " + "x" * 1000 + "}", "fit.method", "…"),
    ],
)
def test_odd_values_are_refused_by_key(tmp_path, text, key, words):
    path = tmp_path / "aai.yaml"
    path.write_text(text)
    with pytest.raises(BadConfig) as raised:
        load_config(path)
    assert raised.value.key == key and words in raised.value.sentence and len(raised.value.sentence) < 300


@pytest.mark.parametrize("change", ["fit..steps=3", ".fit=3", "fit.=3", "=3", "fit", "a." * 1000 + "b=3"])
def test_a_change_that_is_not_key_and_value_is_refused(change):
    with pytest.raises(BadConfig, match="is not KEY=VALUE") as raised:
        parse_change(change)
    assert raised.value.key == "--set"


def test_a_change_is_nested_by_its_key_and_its_value_is_yaml():
    assert parse_change("pools.fit={gpus_per_worker: 1}") == {"pools": {"fit": {"gpus_per_worker": 1}}}
    assert parse_change("audio=a=b") == {"audio": "a=b"}
    with pytest.raises(BadConfig) as raised:
        parse_change("render.format=*png")
    assert raised.value.key == "--set render.format"


def test_models_in_folders_are_found_beside_the_configuration_then_in_the_current_folder(tmp_path, monkeypatch):
    for folder in ("there/both", "here/both", "here/own"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "there" / "aai.yaml").write_text(
        "models: {audio: both, aligner: own, mapper: ./none, joint: some/name, judge: {kind: both, folder: both}}"
    )
    models = load_keys("../there/aai.yaml", {}, {"models": {"dtype": "both"}})["models"]
    assert models == {
        "audio": str(tmp_path / "there" / "both"),
        "aligner": str(tmp_path / "here" / "own"),
        "mapper": str(tmp_path / "there" / "none"),
        "joint": "some/name",
        "judge": {"kind": "both", "folder": str(tmp_path / "there" / "both")},
        "dtype": "both",
    }
