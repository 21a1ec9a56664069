"""Cues as files: their names, their tensors, and what is said beside them."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load

from aai.errors import BadConfig
from aai.export import CARD, INDEX, Entry, Folder, attribution, model_card, name_of, recording
from aai.export.files import tensors_of, to_safetensors

CLIP = "0123456789abcdef" * 2
ENTRY = Entry(
    file="aai-rain-0123456789ab.safetensors",
    token="<aai-rain-0123456789ab>",
    clip_id=CLIP,
    label="rain",
    licence="CC-BY 4.0",
    attribution="author: Ann",
    recording="roof.flac",
    start_s="0.0",
    duration_s="5.0",
    method="mapper",
    base_model="someone/pictures",
    base_revision="a" * 40,
    recipe="abcdef012345",
    program="diffusers",
)
OTHER = replace(ENTRY, file="aai-wind-ba9876543210.safetensors", token="<aai-wind-ba9876543210>", label="wind|*gale*")
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
def test_a_name_is_plain_whatever_the_label(label, name):
    assert name_of(CLIP, label) == f"aai-{name}-0123456789ab"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (None, ""),
        ('{"place": "city"}', ""),
        ('{"Author": "Ann", "url": "http://a.org/1", "place": "city"}', "author: Ann; url: http://a.org/1"),
        ('{"author": "Ann", "attribution": "Rain, by Ann\\n(cropped)"}', "Rain, by Ann (cropped)"),
    ],
)
def test_whose_a_recording_is_comes_from_its_metadata(attributes, said):
    assert attribution(attributes) == said


def test_where_a_recording_lies_is_not_told():
    assert recording("/home/ann/sounds/rain.wav", None) == "rain.wav"
    assert recording("https://a.org/rain.wav?token=a/secret", None) == "rain.wav"
    assert recording("s3://bucket/some.tar", 1536) == "some.tar, from byte 1536"


def test_one_text_encoder_makes_one_tensor_called_what_its_program_looks_for():
    names = {"diffusers": ENTRY.token, "a1111": "emb_params", "comfyui": "clip_l"}
    for program, name in names.items():
        made = tensors_of(ROWS, [12], program, ENTRY.token)
        assert list(made) == [name] and np.array_equal(made[name], ROWS)


@pytest.mark.parametrize("program", ["diffusers", "a1111", "comfyui"])
def test_two_text_encoders_make_exactly_two_tensors(program):
    made = tensors_of(ROWS, [5, 7], program, ENTRY.token)
    assert list(made) == ["clip_l", "clip_g"]
    assert np.array_equal(made["clip_l"], ROWS[:, :5]) and np.array_equal(made["clip_g"], ROWS[:, 5:])


def test_a_file_is_as_the_format_says_and_always_the_same():
    metadata = {"licence": "CC-BY 4.0", "label": "été", "format": "pt"}
    tensors = {"clip_l": ROWS[:, :5], "clip_g": ROWS[:, 5:]}
    data = to_safetensors(tensors, metadata)
    read = load(data)
    assert read.keys() == tensors.keys() and all(np.array_equal(read[name], tensors[name]) for name in read)
    assert all(each.dtype == np.float32 for each in read.values())
    assert data == to_safetensors(tensors, dict(reversed(metadata.items())))


def test_licence_and_attribution_stand_in_file_index_and_card(tmp_path):
    fill(tmp_path, ENTRY, replace(OTHER, licence="", attribution=""))
    with safe_open(tmp_path / ENTRY.file, "np") as file:
        said = file.metadata()
    assert said["licence"] == "CC-BY 4.0" and said["attribution"] == "author: Ann" and said["recipe"] == ENTRY.recipe
    with (tmp_path / INDEX).open(newline="") as table:
        rows = {row["file"]: row for row in csv.DictReader(table)}
    assert [rows[ENTRY.file][key] for key in ("licence", "attribution")] == ["CC-BY 4.0", "author: Ann"]
    card = (tmp_path / CARD).read_text()
    assert "| `aai-rain-0123456789ab` | rain | roof.flac | CC-BY 4.0 | author: Ann |" in card
    assert "- CC-BY 4.0: 1 cue\n- **none is known**: 1 cue\n" in card and "ask whoever made the recording" in card
    assert "| wind\\|\\*gale\\* |" in card


def test_a_card_names_the_base_model_and_its_commit():
    card = model_card([ENTRY], is_xl=False, version="1")
    assert "base_model: someone/pictures\n---" in card
    assert f'from_pretrained("someone/pictures", revision="{"a" * 40}", dtype=torch.float32)' in card
    assert "ask whoever" not in card
    of_a_folder = model_card([replace(ENTRY, base_revision="a" * 32)], is_xl=False, version="1")
    assert (
        "base_model:" not in of_a_folder and 'from_pretrained("someone/pictures", dtype=torch.float32)' in of_a_folder
    )


def test_a_card_of_many_recordings_leaves_the_rest_to_the_index():
    card = model_card([ENTRY] * 205, is_xl=False, version="1")
    assert card.count("| roof.flac |") == 200 and "5 more are in `cues.csv`" in card


def test_a_folder_keeps_what_earlier_exports_put_there(tmp_path):
    fill(tmp_path, OTHER)
    both = fill(tmp_path, ENTRY)
    assert both.num_new == 1 and both.entries == [ENTRY, OTHER]
    (tmp_path / OTHER.file).unlink()
    assert Folder(tmp_path, "diffusers", ENTRY.recipe).entries == [ENTRY]


def test_an_export_of_other_cues_or_for_another_program_wants_another_folder(tmp_path):
    fill(tmp_path, ENTRY)
    for program, recipe in (("a1111", ENTRY.recipe), ("diffusers", "0" * 12)):
        with pytest.raises(BadConfig, match="it holds cues of another configuration or format: name another folder"):
            Folder(tmp_path, program, recipe)


def test_no_file_that_is_there_is_overwritten(tmp_path):
    (tmp_path / ENTRY.file).write_bytes(b"mine")
    with pytest.raises(BadConfig, match=f"{ENTRY.file}: another file of this name is there"):
        fill(tmp_path, ENTRY)
    assert (tmp_path / ENTRY.file).read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (CARD, b"# mine", "README.md: it would be overwritten: name another folder"),
        (INDEX, b"a,b\n1,2\n", "cues.csv: it is no index of cues: name another folder"),
        (INDEX, b"\xff\xfe", "cues.csv: it is no index of cues: name another folder"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(BadConfig, match=said):
        Folder(tmp_path, "diffusers", ENTRY.recipe)
    assert (tmp_path / name).read_bytes() == text


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match=r"file/.*Not a directory.*name another folder"):
        fill(tmp_path / "file", ENTRY)
