"""An aligner is compared with the encoders that its card names."""

import pytest

from aai.align.made_for import card_metadata, check_made_for, encoders_of
from aai.errors import BadConfig
from tasks.aligner.card import aligner_card

COMMITS = ["0" * 40, "1" * 40]
DIGESTS = ["a" * 32, "b" * 32]
OWN = {"audio": ("x/clap", COMMITS[0]), "image_text": ("clip", DIGESTS[0])}


@pytest.fixture
def aligner(tmp_path):
    (tmp_path / "README.md").write_text(aligner_card({"pairs": 3}, {}, [], OWN, "1"))
    return tmp_path


def test_a_card_names_the_encoders(aligner):
    assert (
        encoders_of(aligner)
        == card_metadata(OWN)["aligns"]
        == {
            "audio": f"x/clap@{COMMITS[0]}",
            "image_text": f"clip@{DIGESTS[0]}",
        }
    )
    check_made_for(aligner, OWN)


@pytest.mark.parametrize(("role", "other"), [("audio", ("x/clap", COMMITS[1])), ("image_text", ("clip", DIGESTS[1]))])
def test_an_aligner_for_another_encoder_is_refused(aligner, role, other):
    with pytest.raises(BadConfig) as caught:
        check_made_for(aligner, OWN | {role: other})
    assert caught.value.key == "models.aligner" and caught.value.uri == str(aligner)
    assert f"models.{role} is {'@'.join(other)}" in caught.value.sentence and "@".join(OWN[role]) in str(caught.value)


def test_a_renamed_folder_and_a_copy_of_a_model_on_the_hub_are_no_fault(aligner):
    check_made_for(aligner, {"audio": ("copy-of-clap", DIGESTS[1]), "image_text": ("renamed", DIGESTS[0])})


@pytest.mark.parametrize(
    "card", [None, "# Aligner\n", "---\nlicense: mit\n---\n", "---\naligns: [\n---\n", "---\naligns: x\n---\n"]
)
def test_an_aligner_whose_card_names_none_is_taken(tmp_path, card):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    check_made_for(tmp_path, OWN)
