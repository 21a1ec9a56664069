"""A ballot asks about all methods alike and says nothing of them; the key and the votes give the ranking."""

import base64
import io
import json
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aai.errors import BadConfig
from tasks.evaluate.ballot import BallotOptions, make_ballot
from tasks.evaluate.tally import check_key, key_of, tally
from tests.tasks.evaluate.comparison import METHODS, write_comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A comparison of four clips; tests leave it as it is."""
    return write_comparison(tmp_path_factory.mktemp("work") / "comparison")


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_all_pairs_of_methods_come_equally_often_and_on_both_sides(tmp_path):
    folder = write_comparison(tmp_path / "comparison", num_clips=12)
    made = make_ballot(folder, BallotOptions(pairs=30))
    methods = Counter(frozenset((pair.left.method, pair.right.method)) for pair in made.pairs)
    assert sorted(methods.values()) == [10, 10, 10]
    lefts = Counter(pair.left.method for pair in made.pairs)
    assert all(lefts[method] not in (0, 20) for method in METHODS)
    assert len({pair.id for pair in made.pairs}) == 30


def test_equal_pixels_in_different_files_are_equal_and_a_sweeps_folder_is_named(tmp_path):
    folder = write_comparison(tmp_path / "sweep" / "candidates", num_clips=2, methods=("a", "b"))
    [first, second, *_] = pq.read_table(folder / "cells.parquet")["image"].to_pylist()
    Image.open(folder / first).save(folder / second, pnginfo=_comment("rendered later"))
    made = make_ballot(folder, BallotOptions())
    assert len(made.pairs) == 1 and list(made.notes) == ["1 pairs of equal pictures are left out"]
    with pytest.raises(BadConfig, match=f"name a folder such as {folder}"):
        make_ballot(tmp_path / "sweep", BallotOptions())


def _comment(text: str) -> PngInfo:
    info = PngInfo()
    info.add_text("comment", text)
    return info


def test_equal_pictures_are_left_out_and_counted(folder):
    made = make_ballot(folder, BallotOptions())
    assert len(made.pairs) == 3 * 4 - 1 and list(made.notes) == ["1 pairs of equal pictures are left out"]


def test_the_page_says_nothing_of_methods_and_its_pictures_are_reduced(folder):
    made = make_ballot(folder, BallotOptions(max_px=16))
    data = data_of(made.page)
    assert not any(method in json.dumps(data) for method in (*METHODS, "pictures/", "sounds/", "seed"))
    assert {pair["id"] for pair in data["pairs"]} == made.key["pairs"].keys() and data["id"] == made.key["ballot"]
    for pair in data["pairs"]:
        key = made.key["pairs"][pair["id"]]
        for side in ("left", "right"):
            picture = Image.open(io.BytesIO(base64.b64decode(pair[side].partition(",")[2])))
            number = METHODS.index(key[side]["method"])
            clip = int(key["clip_id"][1:])
            colour = 0 if (clip, number) == (0, 1) else 60 * number
            assert picture.size == (16, 16) and abs(picture.convert("RGB").getpixel((8, 8))[0] - colour - clip) < 6
        assert data["sounds"][pair["sound"]].startswith("data:audio/mpeg;base64,")


def test_the_same_seed_gives_the_same_ballot_and_another_seed_another(folder):
    first, again, other = (make_ballot(folder, BallotOptions(seed=seed)).key for seed in (0, 0, 1))
    assert first == again and first["ballot"] != other["ballot"]


def test_only_some_methods(folder):
    made = make_ballot(folder, BallotOptions(methods=("label", "mapper")))
    assert {pair.left.method for pair in made.pairs} | {pair.right.method for pair in made.pairs} == {"label", "mapper"}
    with pytest.raises(BadConfig, match="no method 'taste': choose from adapter, mapper, label") as error:
        make_ballot(folder, BallotOptions(methods=("taste",)))
    assert error.value.key == "--method"


def test_a_folder_without_a_comparison_or_with_one_method_is_refused(folder, tmp_path):
    with pytest.raises(BadConfig, match="no comparison") as error:
        make_ballot(tmp_path, BallotOptions())
    assert error.value.uri == str(tmp_path)
    with pytest.raises(BadConfig, match="name another one beside label"):
        make_ballot(folder, BallotOptions(methods=("label",)))


def test_a_picture_that_is_gone_is_named(tmp_path):
    folder = write_comparison(tmp_path / "comparison")
    (folder / "pictures" / "2-1.png").unlink()
    with pytest.raises(BadConfig, match="run `aai evaluate` again") as error:
        make_ballot(folder, BallotOptions())
    assert error.value.uri == str(folder / "pictures" / "2-1.png")


def test_clips_without_a_sound_are_left_out_and_counted(tmp_path):
    folder = write_comparison(tmp_path / "comparison")
    rows = pq.read_table(folder / "cells.parquet").to_pylist()
    silent = [row | {"sound": None} if row["clip_id"] == "c1" else row for row in rows]
    pq.write_table(pa.Table.from_pylist(silent), folder / "cells.parquet")
    made = make_ballot(folder, BallotOptions())
    assert made.notes[0] == "1 clips have no sound in the comparison, and are left out"
    assert "c1" not in {pair.clip_id for pair in made.pairs}


def test_edits_of_one_photo_are_compared_with_one_another(tmp_path):
    folder = write_comparison(tmp_path / "comparison", num_clips=1, methods=("adapter", "label"))
    [first, second] = pq.read_table(folder / "cells.parquet").to_pylist()
    rows = [first | {"photo": "a"}, second | {"photo": "b"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "cells.parquet")
    with pytest.raises(BadConfig, match="no clip has different pictures"):
        make_ballot(folder, BallotOptions())


@pytest.fixture
def voted(folder, tmp_path):
    """A key, and votes for the method that comes first in METHODS, with a tie now and then."""
    made = make_ballot(folder, BallotOptions())
    key_of(tmp_path / "ballot.html").write_text(json.dumps(made.key))

    def votes(voter: str, **others) -> dict:
        cast = []
        for number, pair in enumerate(made.pairs):
            is_left = METHODS.index(pair.left.method) < METHODS.index(pair.right.method)
            choice = "tie" if number % 5 == 4 else "left" if is_left else "right"
            cast.append({"pair": pair.id, "choice": choice, "seconds": 1.5})
        return {"ballot": made.key["ballot"], "voter": voter, "votes": cast} | others

    def write(name: str, content) -> None:
        (tmp_path / name).write_text(json.dumps(content))

    write("votes-a.json", votes("a"))
    write("votes-b.json", votes("b"))
    return tmp_path, votes, write


def test_votes_give_a_ranking(voted):
    folder, _, _ = voted
    counted = tally([folder / "votes-a.json", folder / "votes-b.json"])
    assert [standing.method for standing in counted.ranking.standings] == list(METHODS)
    assert (counted.ranking.num_votes, counted.ranking.num_voters, counted.num_ties) == (22, 2, 4)
    assert counted.notes == [] and 0 < counted.left_share < 1
    assert json.loads(json.dumps(counted.as_json()))["standings"][0]["method"] == "adapter"


def test_a_later_vote_of_the_same_voter_replaces_an_earlier_one(voted):
    folder, votes, write = voted
    write("votes-c.json", votes("a") | {"votes": [vote | {"choice": "tie"} for vote in votes("a")["votes"]]})
    counted = tally([folder / "votes-a.json", folder / "votes-c.json"])
    assert (counted.ranking.num_votes, counted.num_ties) == (11, 11)
    assert counted.notes == ["11 votes are replaced by a later vote of the same voter on the same pair"]


def test_what_was_saved_last_counts_in_whatever_order_files_are_named(voted):
    """A browser calls the second file `votes-a (1).json`, which a shell sorts before the first."""
    folder, votes, write = voted
    ties = [vote | {"choice": "tie"} for vote in votes("a")["votes"]]
    write("votes-a.json", votes("a", saved_at="2026-11-28T10:00:00.000Z"))
    write("votes-a (1).json", votes("a", saved_at="2026-11-28T11:30:00.000+01:00") | {"votes": ties})
    for names in (("votes-a (1).json", "votes-a.json"), ("votes-a.json", "votes-a (1).json")):
        assert tally([folder / name for name in names]).num_ties == 11


def test_a_single_vote_is_plain_data_without_an_interval(voted):
    folder, votes, write = voted
    write("votes-a.json", votes("a") | {"votes": votes("a")["votes"][:1]})
    found = json.loads(json.dumps(tally([folder / "votes-a.json"]).as_json(), allow_nan=False))
    assert found["standings"][0]["wins"] == {"value": 1.0, "low": None, "high": None}


def test_votes_on_unknown_pairs_are_counted_apart(voted):
    folder, votes, write = voted
    content = votes("a")
    content["votes"].append({"pair": "ffff", "choice": "left"})
    write("votes-a.json", content)
    counted = tally([folder / "votes-a.json"])
    assert counted.ranking.num_votes == 11
    assert counted.notes == ["1 votes are on pairs that their ballot does not have, and do not count"]


def test_a_key_is_found_by_its_ballot_and_never_replaced_by_that_of_another(voted):
    folder, votes, write = voted
    write("votes-a.json", votes("a"))
    key_of(folder / "ballot.html").rename(folder / "second-key.json")
    write("ballot-key.json", {"ballot": "another", "pairs": {}})
    write("ssh-key.json", {"private": "no ballot"})
    assert tally([folder / "votes-a.json"]).ranking.num_votes == 11
    check_key(folder / "second-key.json", votes("a")["ballot"])
    check_key(folder / "third-key.json", "new")
    for name in ("ballot-key.json", "ssh-key.json"):
        with pytest.raises(BadConfig) as error:
            check_key(folder / name, votes("a")["ballot"])
        assert error.value.uri == str(folder / name)
    (folder / "second-key.json").unlink()
    with pytest.raises(BadConfig, match=r"ballot-key.json: keys of other ballots; the key of its ballot is not there"):
        tally([folder / "votes-a.json"])


@pytest.mark.parametrize(
    ("content", "key", "sentence"),
    [
        ({"ballot": "x", "voter": "a", "votes": []}, None, "the key of its ballot is not there"),
        ({"ballot": "x", "voter": "a"}, "votes", "it is missing"),
        ({"ballot": "x", "voter": "a", "votes": [{"pair": "1", "choice": "up"}]}, "votes.0.choice", "'up'"),
        ([], None, "it is no mapping"),
    ],
)
def test_files_that_are_no_votes_are_refused(voted, content, key, sentence):
    folder, _, write = voted
    write("wrong.json", content)
    with pytest.raises(BadConfig, match=sentence) as error:
        tally([folder / "wrong.json"])
    assert (error.value.key, error.value.uri) == (key, str(folder / "wrong.json"))


def test_a_ballot_without_votes_and_a_key_that_is_none_are_refused(voted):
    folder, votes, write = voted
    write("none.json", votes("a") | {"votes": []})
    with pytest.raises(BadConfig, match="no votes"):
        tally([folder / "none.json"])
    with pytest.raises(BadConfig, match="no key of a ballot"):
        tally([folder / "votes-a.json"], [folder / "votes-a.json"])
    write("ballot-key-cut.json", {"ballot": "b", "pairs": {"p": {"clip_id": "c", "left": {}, "right": {}}}})
    with pytest.raises(BadConfig, match="no key of a ballot"):
        tally([folder / "votes-a.json"], [folder / "ballot-key-cut.json"])
    for wrong in ({"clip_id": [1]}, {"left": {"method": 3}}):
        row = {"clip_id": "c", "left": {"method": "a"}, "right": {"method": "b"}} | wrong
        write("ballot-key-cut.json", {"ballot": "b", "pairs": {"p": row}})
        with pytest.raises(BadConfig, match="no key of a ballot"):
            tally([folder / "votes-a.json"], [folder / "ballot-key-cut.json"])
    with pytest.raises(BadConfig, match="no such file"):
        tally([folder / "votes-z.json"])
