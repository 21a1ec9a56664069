"""The model card of an export."""

from dataclasses import replace

from aai.export import model_card
from tests.export.entries import ENTRY, OTHER


def test_a_card_names_the_base_model_and_its_commit():
    card = model_card([ENTRY], is_xl=False, version="1")
    assert "base_model: someone/pictures\n---" in card
    assert f'from_pretrained("someone/pictures", revision="{"a" * 40}", dtype=torch.float32)' in card
    assert "ask the author" not in card
    of_a_folder = model_card([replace(ENTRY, base_revision="a" * 32)], is_xl=False, version="1")
    assert (
        "base_model:" not in of_a_folder and 'from_pretrained("someone/pictures", dtype=torch.float32)' in of_a_folder
    )


def test_a_card_counts_licences_and_escapes_markdown():
    card = model_card([ENTRY, replace(OTHER, licence="", attribution="")], is_xl=False, version="1")
    assert "| `aai-rain-0123456789ab` | rain | roof.flac | CC-BY 4.0 | author: Ann |" in card
    assert "- CC-BY 4.0: 1 cue\n- **unknown**: 1 cue\n" in card and "ask the author" in card
    assert "| wind\\|\\*gale\\* |" in card


def test_a_card_of_many_recordings_refers_to_the_index():
    card = model_card([ENTRY] * 205, is_xl=False, version="1")
    assert card.count("| roof.flac |") == 200 and "5 more are in `cues.csv`" in card
