"""Textual-inversion files: names, tensors, metadata, and what diffusers does with them."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.numpy import load
from safetensors.torch import load_file

from aai.errors import BadConfig
from aai.export import CARD, INDEX, Folder, attribution, model_card, name_of, recording
from aai.export.files import METADATA_KEY, tensors_of, to_safetensors
from tests.export.entries import CLIP, ENTRY, OTHER
from tests.models import shrunk

ROWS = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)


def fill(path, *entries, program="diffusers", recipe=ENTRY.recipe, rows=ROWS) -> Folder:
    folder = Folder(path, program, recipe)
    for entry in entries:
        folder.add(entry, rows, [12])
    folder.close(model_card(folder.entries, is_xl=False, version="1"))
    return folder


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Heavy  Rain!", "heavy-rain"),
        ("été (soft)", "ete-soft"),
        ("雨", "clip"),
        (None, "clip"),
        ("../../etc/passwd", "etc-passwd"),
        ("embedding:x, (y:1.2) <z>", "embedding-x-y-1-2-z"),
        ("-" * 50, "clip"),
        ("a" * 39 + " b", "a" * 39),
        ("con", "con"),
    ],
)
def test_a_name_is_safe_for_any_label(label, name):
    assert name_of(CLIP, label) == f"aai-{name}-0123456789ab"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (None, ""),
        ('{"place": "city"}', ""),
        ('{"Author": "Ann", "url": "http://a.org/1", "place": "city"}', "author: Ann; url: http://a.org/1"),
        ('{"author": "Ann", "attribution": "Rain, by Ann\\n(cropped)"}', "Rain, by Ann (cropped)"),
    ],
)
def test_the_attribution_comes_from_the_metadata(attributes, expected):
    assert attribution(attributes) == expected


def test_folders_and_queries_are_not_exported():
    assert recording("/home/ann/sounds/rain.wav", None) == "rain.wav"
    assert recording("https://a.org/rain.wav?token=a/secret", None) == "rain.wav"
    assert recording("s3://bucket/some.tar", 1536) == "some.tar, from byte 1536"


def test_one_text_encoder_has_one_tensor_with_the_programs_usual_name():
    names = {"diffusers": ENTRY.token, "a1111": "emb_params", "comfyui": "clip_l"}
    for program, name in names.items():
        tensors = tensors_of(ROWS, [12], program, ENTRY.token)
        assert list(tensors) == [name] and np.array_equal(tensors[name], ROWS)


@pytest.mark.parametrize("program", ["diffusers", "a1111", "comfyui"])
def test_two_text_encoders_have_exactly_two_tensors(program):
    tensors = tensors_of(ROWS, [5, 7], program, ENTRY.token)
    assert list(tensors) == ["clip_l", "clip_g"]
    assert np.array_equal(tensors["clip_l"], ROWS[:, :5]) and np.array_equal(tensors["clip_g"], ROWS[:, 5:])


def test_a_file_is_valid_safetensors_and_independent_of_the_metadata_order():
    metadata = {"licence": "CC-BY 4.0", "label": "été", "format": "pt"}
    tensors = {"clip_l": ROWS[:, :5], "clip_g": ROWS[:, 5:]}
    data = to_safetensors(tensors, metadata)
    loaded = load(data)
    assert loaded.keys() == tensors.keys() and all(np.array_equal(loaded[name], tensors[name]) for name in loaded)
    assert all(tensor.dtype == np.float32 for tensor in loaded.values())
    assert data == to_safetensors(tensors, dict(reversed(metadata.items())))


def test_a_file_is_byte_identical_in_another_process():
    """Hash seeds differ between processes, and with them the order of the library's own maps."""
    code = (
        "import sys, numpy as np; from aai.export.files import to_safetensors\n"
        "tensors = {name: np.ones((2, 3), np.float32) for name in ('clip_l', 'clip_g')}\n"
        "sys.stdout.buffer.write(to_safetensors(tensors, {str(number): 'x' for number in range(20)}))"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(runs) == 1


def test_licence_and_attribution_are_in_file_and_index(tmp_path):
    fill(tmp_path, ENTRY, replace(OTHER, licence="", attribution=""))
    with safe_open(tmp_path / ENTRY.file, "np") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
    assert (metadata["licence"], metadata["attribution"], metadata["recipe"]) == (
        "CC-BY 4.0",
        "author: Ann",
        ENTRY.recipe,
    )
    with (tmp_path / INDEX).open(newline="") as table:
        rows = {row["file"]: row for row in csv.DictReader(table)}
    assert [rows[ENTRY.file][key] for key in ("licence", "attribution")] == ["CC-BY 4.0", "author: Ann"]


def test_a_second_export_adds_to_the_folder(tmp_path):
    fill(tmp_path, OTHER)
    both = fill(tmp_path, ENTRY)
    assert both.num_new == 1 and both.entries == [ENTRY, OTHER]
    (tmp_path / OTHER.file).unlink()
    assert Folder(tmp_path, "diffusers", ENTRY.recipe).entries == [ENTRY]


def test_another_recipe_or_program_needs_another_folder(tmp_path):
    fill(tmp_path, ENTRY)
    for program, recipe in (("a1111", ENTRY.recipe), ("diffusers", "0" * 12)):
        with pytest.raises(BadConfig, match="cues of another configuration or format") as error:
            Folder(tmp_path, program, recipe)
        assert error.value.uri == str(tmp_path)


def test_no_existing_file_is_overwritten(tmp_path):
    (tmp_path / ENTRY.file).write_bytes(b"mine")
    with pytest.raises(BadConfig, match="a different file of this name exists") as error:
        fill(tmp_path, ENTRY)
    assert error.value.uri == str(tmp_path / ENTRY.file)
    assert (tmp_path / ENTRY.file).read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (CARD, b"# mine", "it would be overwritten: choose another folder"),
        (INDEX, b"a,b\n1,2\n", "this is no index of cues: choose another folder"),
        (INDEX, b"\xff\xfe", "this is no index of cues: choose another folder"),
    ],
)
def test_a_folder_with_other_files_is_rejected(tmp_path, name, text, sentence):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(BadConfig, match=sentence) as error:
        Folder(tmp_path, "diffusers", ENTRY.recipe)
    assert error.value.uri == str(tmp_path / name)
    assert (tmp_path / name).read_bytes() == text


def test_a_folder_that_is_not_writable_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match=r"file/.*Not a directory.*choose another folder"):
        fill(tmp_path / "file", ENTRY)


def write(path, entry, seed: int, dims: list[int]):
    """A file with a cue of two random vectors."""
    folder = Folder(path, "diffusers", ENTRY.recipe)
    rows = np.random.default_rng(seed).normal(size=(2, sum(dims))).astype(np.float32)
    folder.add(entry, rows, dims)
    return path / entry.file


def token_list(entry) -> list[str]:
    """The tokens that diffusers adds for a cue of two vectors."""
    return [entry.token, f"{entry.token}_1"]


def test_unloading_all_tokens_of_a_cue_in_diffusers_allows_to_load_it_again(tmp_path, sd15_folder):
    pipe = StableDiffusionPipeline.from_pretrained(sd15_folder, safety_checker=None)
    file, other = (write(tmp_path, entry, seed, [shrunk.DIM]) for seed, entry in enumerate((ENTRY, OTHER)))

    def embeds(entry) -> torch.Tensor:
        return pipe.encode_prompt(f"a photo of {entry.token}", "cpu", 1, False)[0].detach()

    pipe.load_textual_inversion(file, token=ENTRY.token)
    pipe.load_textual_inversion(other, token=OTHER.token)
    before = embeds(ENTRY), embeds(OTHER)
    pipe.unload_textual_inversion(token_list(ENTRY))
    assert [token for token in token_list(ENTRY) if token in pipe.tokenizer.get_vocab()] == []
    assert torch.equal(embeds(OTHER), before[1])
    pipe.load_textual_inversion(file, token=ENTRY.token)
    assert torch.equal(embeds(ENTRY), before[0])
    pipe.unload_textual_inversion()
    assert not {*token_list(ENTRY), *token_list(OTHER)} & pipe.tokenizer.get_vocab().keys()


def test_unloading_only_the_first_token_of_a_cue_in_diffusers_leaves_the_second(tmp_path, sd15_folder):
    """If this fails, diffusers unloads all tokens of a cue by its first one: simplify docs/EXPORT.md."""
    pipe = StableDiffusionPipeline.from_pretrained(sd15_folder, safety_checker=None)
    file = write(tmp_path, ENTRY, 0, [shrunk.DIM])
    pipe.load_textual_inversion(file, token=ENTRY.token)
    pipe.unload_textual_inversion(ENTRY.token)
    assert f"{ENTRY.token}_1" in pipe.tokenizer.get_vocab()
    with pytest.raises(ValueError, match="already in tokenizer vocabulary"):
        pipe.load_textual_inversion(file, token=ENTRY.token)


def test_unloading_in_diffusers_with_sdxl_is_per_text_encoder(tmp_path, sdxl_folder):
    pipe = StableDiffusionXLPipeline.from_pretrained(sdxl_folder)
    cue = load_file(write(tmp_path, ENTRY, 0, [shrunk.DIM, shrunk.DIM_2]))
    encoders = (("clip_l", pipe.tokenizer, pipe.text_encoder), ("clip_g", pipe.tokenizer_2, pipe.text_encoder_2))
    for _ in range(2):
        for key, tokenizer, text_encoder in encoders:
            pipe.load_textual_inversion(cue[key], ENTRY.token, tokenizer, text_encoder)
        for _, tokenizer, text_encoder in encoders:
            pipe.unload_textual_inversion(token_list(ENTRY), tokenizer, text_encoder)
            assert not set(token_list(ENTRY)) & tokenizer.get_vocab().keys()


def test_a_corrected_label_or_licence_replaces_the_file_and_the_lines_about_it(tmp_path):
    fill(tmp_path, ENTRY, OTHER)
    name = name_of(CLIP, "fire")
    relabelled = replace(ENTRY, label="fire", file=f"{name}.safetensors", token=f"<{name}>")
    folder = fill(tmp_path, relabelled, OTHER)
    assert (folder.num_new, folder.num_updated) == (0, 1)
    licensed = replace(relabelled, licence="GPL")
    folder = fill(tmp_path, licensed, OTHER)
    assert (folder.num_new, folder.num_updated) == (0, 1)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == sorted([licensed.file, OTHER.file])
    rows = list(csv.DictReader((tmp_path / INDEX).read_text().splitlines()))
    assert sorted(row["licence"] for row in rows) == sorted([licensed.licence, OTHER.licence])
    with safe_open(tmp_path / licensed.file, "np") as file:
        assert json.loads(file.metadata()[METADATA_KEY])["licence"] == "GPL"
