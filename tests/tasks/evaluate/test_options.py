"""The file of a comparison: what it may hold, and what is said of what it may not."""

from pathlib import Path

import pytest

from aai.errors import BadConfig
from tasks.evaluate.options import METHODS, ComparisonOptions, Method, load_comparison


def written(folder: Path, text: str) -> Path:
    path = folder / "compare.yaml"
    path.write_text(text)
    return path


def test_without_a_file_it_is_the_default_comparison():
    options = load_comparison(None, {})
    assert len(options.methods) == 6 and options.compared_with == options.methods[0].name
    assert (options.config, options.output, options.seeds) == ("aai.yaml", "comparison", 1)


def test_paths_are_relative_to_the_file_and_arguments_replace_keys(tmp_path):
    path = written(tmp_path, "config: bank/aai.yaml\noutput: out\nmethods: [mapper, label]\nreference: label")
    options = load_comparison(path, {})
    assert (options.config, options.output) == (str(tmp_path / "bank/aai.yaml"), str(tmp_path / "out"))
    assert load_comparison(path, {"output": "/elsewhere"}).output == "/elsewhere"
    assert options.compared_with == "label"


def test_a_method_has_keys_with_dots_or_nested():
    method = Method(name="mine", set={"fit.steps": 48, "fit": {"method": "adapter"}, "retrieve.num_neighbours": 2})
    assert method.changes == {"fit": {"steps": 48, "method": "adapter"}, "retrieve": {"num_neighbours": 2}}
    assert not METHODS["label"].needs_cues and METHODS["adapter"].needs_cues


def test_the_name_of_a_built_in_method_with_other_keys_changes_it(tmp_path):
    text = "methods: [{name: inversion, set: {fit: {steps: 96}}}, {name: label, job: {steps: 8}}, {name: mine}]"
    inversion, label, mine = load_comparison(written(tmp_path, text), {}).methods
    assert inversion.changes == {"fit": {"method": "inversion", "steps": 96}}
    assert (label.prompt, label.job) == ("label", {"steps": 8}) and not label.needs_cues
    assert mine == Method(name="mine") and mine.needs_cues


def test_every_built_in_method_is_described_in_words():
    said = {name: method.description for name, method in METHODS.items()}
    assert len(set(said.values())) == len(METHODS) and all(len(text.split()) > 5 for text in said.values())
    assert "fit.steps: 48" in said["inversion"] and "label" in said["without-ear"]
    assert Method(name="inversion", set={"fit.steps": 9}).description == "fit.steps: 9"
    assert Method(name="mine").description == "the configuration of the bank"


@pytest.mark.parametrize("keys", ["job: {seeds: 3}", "job: {prompt: a * city}", "job: {name: x}", "job: {limit: 3}"])
def test_keys_without_effect_are_refused(tmp_path, keys):
    with pytest.raises(BadConfig, match="has no effect here") as error:
        load_comparison(written(tmp_path, f"methods: [{{name: mine, {keys}}}]"), {})
    assert error.value.key == "methods.0.job" and "too short" not in error.value.sentence


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("methods: [mapper, magic]", "methods"),
        ("methods: [{name: random, job: {candidates: 4}}]", "methods.0"),
        ('methods: [{name: "two\\nlines"}]', "methods.0.name"),
        ("methods: [3]", "methods.0"),
        ("prompts: [null]", "prompts"),
        ("methods: [mapper, mapper]", "methods"),
        ("methods: [{name: mine, sets: {}}]", "methods.0.sets"),
        ("methods: []", "methods"),
        ("reference: inverse", None),
        ("prompts: [a photo of rain]", "prompts"),
        ("prompts: ['*rain and *fire']", "prompts"),
        ("prompts: ['*:9']", "prompts"),
        ("seeds: 0", "seeds"),
        ("seeds: [3, 3]", "seeds"),
        ("clips: {limit: 0}", "clips.limit"),
        ("method: [mapper]", "method"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, key):
    with pytest.raises(BadConfig) as error:
        load_comparison(written(tmp_path, text), {})
    assert error.value.key == key and error.value.uri == str(tmp_path / "compare.yaml")


def test_the_file_of_the_published_results_compares_all_built_in_methods():
    path = Path(__file__).parents[3] / "docs" / "compare.yaml"
    options = load_comparison(path, {})
    assert {method.name for method in options.methods} == METHODS.keys() and options.reference == "mapper"
    assert Path(options.config).resolve() == path.parents[1] / "demo" / "aai.yaml"


def test_seeds_are_a_number_or_a_list():
    assert ComparisonOptions(seeds=[3, 17]).seeds == (3, 17)


def test_one_method_needs_no_list_and_none_is_refused_in_plain_words(tmp_path):
    assert load_comparison(written(tmp_path, "methods: mapper"), {}).methods == (METHODS["mapper"],)
    for text, sentence in (
        ("methods: []", "it is too short: at least 1"),
        ("methods: 3", "3 is not a list"),
    ):
        with pytest.raises(BadConfig, match=sentence) as error:
            load_comparison(written(tmp_path, text), {})
        assert error.value.key == "methods"
