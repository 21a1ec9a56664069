"""A card shows a clip with its neighbours, cue, pictures and scores; what is missing says why."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aai.identity import clip_id, content_id
from aai.media.images import encode
from aai.report import Card
from aai.tiny.scenes import Scene, render
from tasks.runtime.run import Run
from tasks.views.clip_cards import cards
from tasks.views.results import generations
from tests.bank import add_files, append, rows_of
from tests.gallery import JOBS, SOUNDS, add_scores, make_gallery


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Run:
    """A gallery with scores; its files and rows stay as they are."""
    run = make_gallery(tmp_path_factory.mktemp("gallery"))
    add_scores(run)
    return run


def cards_of(run: Run) -> dict[str, Card]:
    """The cards of all clips, by the name of the file."""
    ids = [row["clip_id"] for row in rows_of(run, "clips")]
    with ThreadPoolExecutor(2) as threads:
        found = cards(run, ids, generations(run), threads)
    assert [card.clip_id for card in found] == ids
    return {card.file: card for card in found}


def test_a_card_has_everything_about_its_clip(gallery):
    card = cards_of(gallery)["downpour.flac"]
    assert (card.label, card.intensity, card.duration_s) == ("rain", 0.9, 5)
    assert card.sound.src.startswith("data:audio/mpeg;base64,") and card.sound.top_hz == 8_000
    assert [near.similarity for near in card.neighbours] == pytest.approx([0.9, 0.5, 0.25])
    assert all(near.thumb.src.startswith("data:image/webp;base64,") for near in card.neighbours)
    assert {shown.job for shown in card.jobs} == set(JOBS) and card.methods == ["mapper"]
    assert all(picture.thumb.src and picture.scores for shown in card.jobs for picture in shown.pictures)
    assert card.scores[""]["judge_phenomenon"] == card.scores["mapper"]["judge_phenomenon"] == 1


def test_an_edit_is_shown_with_its_photo(tmp_path):
    run = make_gallery(tmp_path, SOUNDS[:1])
    photo = tmp_path / "images" / "scene 0.png"
    row = rows_of(run)[0] | {"render_id": "edit", "job": "edit", "image_uri": str(photo)}
    of_photo = row | {"image_id": content_id(photo.read_bytes())}
    append(run, "renders", [of_photo, row | {"render_id": "gone", "image_id": "0", "seed": 1}])
    [card] = cards_of(run).values()
    shown = {job.job: job.pictures for job in card.jobs}
    good, gone = (picture.photo for picture in shown["edit"])
    assert good.src.startswith("data:image/webp;base64,") and good.alt == "photo: scene 0.png"
    assert gone.src is None and gone.problem
    assert all(picture.photo is None for name in JOBS for picture in shown[name])


def test_a_fitted_cue_has_a_curve_and_a_predicted_one_has_none(gallery):
    cues = [card.cue for card in cards_of(gallery).values()]
    fitted = [cue for cue in cues if cue.curve]
    assert len(fitted) == len(SOUNDS) - 1
    assert all(cue.curve.num_points == 3 and 0 < cue.gain < 0.5 for cue in fitted)
    assert [cue.gain for cue in cues].count(None) == 1


def test_a_clip_that_no_later_stage_knows_has_an_empty_card(gallery):
    data = b"a recording that was ingested and then deleted"
    new = clip_id(content_id(data), 0.0, 5.0)
    run = make_gallery(Path(gallery.workspace.uri).parent / "other", SOUNDS[:1])
    add_files(run, "audio", [{"uri": "/sounds/gone.wav", "content_id": content_id(data)}])
    append(run, "clips", [{"clip_id": new, "content_id": content_id(data)}])
    card = cards_of(run)["gone.wav"]
    assert (card.neighbours, card.cue, card.jobs, card.scores, card.intensity) == ([], None, [], {}, None)
    assert card.sound.src is None and "gone" in card.sound.problem


def test_missing_and_changed_files_say_so_and_the_rest_is_shown(tmp_path):
    run = make_gallery(tmp_path)
    (tmp_path / "sounds" / "rain.flac").unlink()
    (tmp_path / "sounds" / "fire.flac").write_bytes((tmp_path / "sounds" / "embers.flac").read_bytes())
    (tmp_path / "images" / "scene 0.png").unlink()
    other = encode(render([Scene("noun", "clock", None, 0.5, 9)]).pixels[0], "png")
    (tmp_path / "images" / "scene 1.png").write_bytes(other)
    for shard in run.workspace.store.files("shards"):
        (tmp_path / "bank" / shard).unlink()
    found = cards_of(run)
    assert "gone" in found["rain.flac"].sound.problem and "changed" in found["fire.flac"].sound.problem
    assert found["downpour.flac"].sound.src
    gone, changed, there = found["rain.flac"].neighbours
    assert "gone" in gone.thumb.problem and "changed" in changed.thumb.problem and there.thumb.src
    picture = found["downpour.flac"].jobs[0].pictures[0]
    assert picture.thumb.src is None and "shard" in picture.thumb.problem


def test_a_neighbour_that_is_no_longer_known_says_so(tmp_path):
    run = make_gallery(tmp_path, SOUNDS[:1])
    [row] = rows_of(run, "clips")
    other = Run(run.config, run.workspace, run.stages)
    gone = {"clip_id": content_id(b"second"), "image_ids": ["0" * 32], "similarities": [0.5]}
    append(other, "neighbours", [gone])
    append(other, "clips", [{"clip_id": gone["clip_id"], "content_id": row["content_id"]}])
    with ThreadPoolExecutor(1) as threads:
        [card] = cards(other, [gone["clip_id"]], [], threads)
    [near] = card.neighbours
    assert near.thumb.src is None and near.thumb.problem


def test_many_pictures_of_one_prompt_are_counted_and_not_all_shown(tmp_path):
    run = make_gallery(tmp_path, SOUNDS[:1])
    [row, *_] = rows_of(run)
    copied = {name: value for name, value in row.items() if name != "recipe"}
    append(run, "renders", [copied | {"render_id": f"{number:032}", "seed": number} for number in range(9)])
    [card] = cards_of(run).values()
    [shown] = [shown for shown in card.jobs if shown.job == row["job"]]
    assert len(shown.pictures) == 4 and shown.num_more == 6


def test_a_picture_of_two_clips_is_on_both_cards(tmp_path):
    run = make_gallery(tmp_path, SOUNDS[:2])
    ids = [row["clip_id"] for row in rows_of(run, "clips")]
    [row, *_] = rows_of(run)
    both = {name: value for name, value in row.items() if name != "recipe"}
    append(run, "renders", [both | {"render_id": "0" * 32, "clip_ids": ids, "job": "blend", "prompt": "a * and a *"}])
    assert all("blend" in {shown.job for shown in card.jobs} for card in cards_of(run).values())
