"""Best of n: candidates are rendered in bulk, measured by what did not retrieve, and one of them is kept."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from aai.edit.options import EditOptions
from aai.errors import BadConfig
from aai.jobs.job import candidate_seeds
from aai.media.images import ImageOptions, decode, encode
from aai.metrics import METRICS
from aai.models.joint import load_joint
from aai.models.judge import load_judge
from aai.workspace.shards import read_picture
from tasks.candidates import Choosing, best_of, expanded
from tasks.choice import note
from tasks.edit import Edited
from tasks.render import plan_render, render
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tasks.runtime.work import Reject
from tasks.views.lookup import look_up
from tasks.views.report import gather
from tests.bank import CLIPS, add_cues, jobs_of, json_of, rows_of, run_on
from tests.collection import build, write_collection
from tests.collection import run_on as collection_run
from tests.models.joint_encoders import write_gemma

BY_CLIP = {"candidates": 3, "chosen_by": "clip_score", "cues": "label is not null"}
NUM = 4  # clips with a label


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory) -> Run:
    """The best of three by CLIPScore; tests leave it as it is."""
    run = add_cues(run_on(tmp_path_factory.mktemp("work") / "bank"))
    render(run, jobs_of(run, BY_CLIP))
    return run


def pixels_of(run: Run, row: dict) -> np.ndarray:
    return decode(read_picture(run.workspace, row), "", ImageOptions()).pixels


def by_clip(run: Run) -> dict[str, dict]:
    return {row["clip_ids"][0]: row for row in rows_of(run)}


def test_the_best_of_the_candidates_is_kept_and_the_row_has_all_scores(chosen):
    rows = rows_of(chosen)
    assert len(rows) == NUM and len({row["seed"] for row in rows}) == 1
    for row in rows:
        assert row["candidate_seeds"] == candidate_seeds(row["seed"], 3) and row["candidate_seeds"][0] == row["seed"]
        assert row["chosen_seed"] == row["candidate_seeds"][int(np.argmax(row["candidate_scores"]))]
        assert (row["chosen_by"], row["candidate_preserved_db"]) == ("clip_score", None)
        assert row["chosen_by_model"] == "@".join(chosen.revision("image_text"))
        stored = json_of(chosen, row)
        assert (stored["chosen_seed"], stored["candidate_scores"]) == (row["chosen_seed"], row["candidate_scores"])
    assert any(row["chosen_seed"] != row["seed"] for row in rows)


def test_the_kept_picture_is_the_one_of_its_seed(chosen, run):
    for clip, row in by_clip(chosen).items():
        job = {"cues": {"clip_ids": clip}, "seeds": [row["chosen_seed"]], "name": clip}
        render(run, jobs_of(run, job))
    for clip, row in by_clip(run).items():
        difference = np.abs(pixels_of(run, row).astype(int) - pixels_of(chosen, by_clip(chosen)[clip]))
        assert difference.max() <= 1 and row["chosen_seed"] is row["candidate_seeds"] is row["chosen_by"] is None
        assert "chosen_seed" not in json_of(run, row)


def test_neither_batches_nor_slices_change_the_choice(chosen, tmp_path):
    small = {"render": {"guidance": 1, "batch_size": 2}, "pool": {"num_workers": 0, "slice_size": 3}}
    run = add_cues(run_on(tmp_path / "bank", **small))
    assert render(run, jobs_of(run, BY_CLIP)).new == NUM
    for clip, row in by_clip(run).items():
        other = by_clip(chosen)[clip]
        assert (row["render_id"], row["chosen_seed"]) == (other["render_id"], other["chosen_seed"])
        assert row["candidate_scores"] == pytest.approx(other["candidate_scores"], abs=1e-3)


def test_the_plan_counts_candidates_and_a_second_run_does_nothing(chosen, run):
    new = plan_render(run, RenderSource(run, jobs_of(run, BY_CLIP, {"name": "one"})))
    assert (new.new, new.candidates) == (NUM + len(CLIPS), 3 * NUM + len(CLIPS))
    source = RenderSource(chosen, jobs_of(chosen, BY_CLIP))
    assert source.mean_candidates() == 3
    assert render(chosen, jobs_of(chosen, BY_CLIP)).new == 0 and plan_render(chosen, source).candidates == 0
    more = plan_render(chosen, RenderSource(chosen, jobs_of(chosen, BY_CLIP | {"candidates": 6})))
    assert (more.new, more.candidates) == (NUM, 6 * NUM)
    row = max(chosen.workspace.table("runs").read().to_pylist(), key=lambda row: row["worked_s"])
    assert more.estimate.seconds == pytest.approx(row["loading_s"] + 2 * row["worked_s"])


def test_a_plan_of_very_many_pictures_counts_candidates_without_expanding_them(run, monkeypatch):
    monkeypatch.setattr("tasks.render_source._EXPANDED_FOR_PLANS", 0)
    jobs = jobs_of(run, BY_CLIP | {"seeds": 5}, {"name": "one", "cues": BY_CLIP["cues"], "prompt": "a *"})
    assert plan_render(run, RenderSource(run, jobs)).candidates == 15 * NUM + NUM


def test_the_judge_keeps_the_first_candidate_that_shows_what_was_asked_for(run):
    render(run, jobs_of(run, {"candidates": 3, "prompt": "a * city", "steps": 4, "limit": 3}))
    judge = load_judge(run.config.models.judge)
    shares = [name for name, metric in METRICS.items() if metric.is_share]
    for row in rows_of(run):
        assert row["chosen_by"] == "judge"
        found = judge([pixels_of(run, row)], [row["prompt"]], [json_of(run, row)["labels"]])
        asked = [found[name][0] for name in shares if name in found and not np.isnan(found[name][0])]
        best = max(row["candidate_scores"])
        assert row["chosen_seed"] == row["candidate_seeds"][row["candidate_scores"].index(best)]
        assert np.mean(asked) == pytest.approx(best)


def test_a_clip_without_a_label_cannot_be_measured_and_has_the_first(run, caplog):
    render(run, jobs_of(run, {"candidates": 2, "chosen_by": "clip_score", "cues": "label is null"}))
    [row] = rows_of(run)
    assert row["candidate_scores"] is None and row["chosen_seed"] == row["seed"]
    assert "pictures with candidates: 1, another than the first: 0, could not be measured: 1" in caplog.text


def test_the_page_says_how_many_are_not_the_first(chosen):
    others = sum(row["chosen_seed"] != row["seed"] for row in rows_of(chosen))
    [remark] = [remark for name, _, remark in gather(chosen, 9).totals if name == "pictures"]
    assert remark == f"of {NUM} chosen among candidates by clip_score, {others} are not the first"
    shown = {card.clip_id: job.pictures[0].candidate for card in gather(chosen, 9).cards for job in card.jobs}
    for clip, row in by_clip(chosen).items():
        assert shown[clip] == (row["candidate_seeds"].index(row["chosen_seed"]) + 1, 3)


def test_candidates_and_their_measure_are_part_of_the_id(run):
    def id_of(**job) -> str:
        jobs = jobs_of(run, {"cues": {"clip_ids": CLIPS[0]}} | job)
        return next(iter(RenderSource(run, jobs).pending().rows))["render_id"][0].as_py()

    ids = [id_of(), id_of(candidates=2), id_of(candidates=3), id_of(candidates=3, chosen_by="clip_score")]
    assert len(set(ids)) == 4 and id_of(candidates=1) == ids[0] and id_of(candidates=3, chosen_by="judge") == ids[2]


def test_the_measure_must_not_have_retrieved_unless_the_job_says_so(tmp_path):
    run = add_cues(run_on(tmp_path / "bank", models={"judge": None}))
    with pytest.raises(BadConfig, match="no measure is independent") as error:
        RenderSource(run, jobs_of(run, {"candidates": 2}))
    assert error.value.key == "jobs: job 1: candidates"
    with pytest.raises(BadConfig, match="name one in models.judge") as error:
        RenderSource(run, jobs_of(run, {"candidates": 2, "chosen_by": "judge"}))
    assert error.value.key == "jobs: job 1: chosen_by"
    [warning] = RenderSource(run, jobs_of(run, {"candidates": 2, "chosen_by": "clip_score"})).warnings()
    assert warning.startswith("jobs: job 1: chosen_by: clip_score is not independent")


def test_a_second_encoder_that_hears_and_sees_chooses_where_there_is_no_judge(tmp_path):
    folder = write_collection(tmp_path / "collection")
    models = {"judge": None, "audio_judge": str(write_gemma(tmp_path / "ear"))}
    run = collection_run(folder, models=models, render={"guidance": 1})
    build(run)
    render(run, jobs_of(run, {"candidates": 2, "limit": 2}))
    joint = load_joint(models["audio_judge"])
    for row in rows_of(run):
        [clip] = look_up(run, "known_clips", row["clip_ids"], ("uri",), key="clip_id")
        wave, rate_hz = soundfile.read(clip["uri"], dtype="float32")
        heard = joint.sounds.embed_clips([wave], rate_hz).numpy()[0]
        seen = joint.images.embed_images([pixels_of(run, row)]).numpy()[0]
        assert row["chosen_by"] == "audio_judge" and max(row["candidate_scores"]) == pytest.approx(
            heard @ seen, abs=1e-3
        )
    assert len(rows_of(run)) == 2


def test_with_a_joint_encoder_clip_is_independent(tmp_path):
    folder = tmp_path / "joint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "pe_audio_video"}))
    run = run_on(tmp_path / "bank", models={"judge": None, "joint": str(folder)}, align={"method": "joint"})
    add_cues(run)
    source = RenderSource(run, jobs_of(run, {"candidates": 2, "limit": 1}))
    [row] = next(iter(source.pending().rows)).to_pylist()
    assert (row["candidates"], row["chosen_by"], source.warnings()) == (2, "clip_score", [])


def test_of_equal_candidates_the_first_is_best():
    assert best_of(np.array([0.5, 1.0, 1.0])) == 1
    assert best_of(np.array([np.nan, 0.2, np.nan])) == 1
    assert best_of(np.full(3, np.nan)) == 0


def test_of_equally_good_edits_the_one_that_preserves_most_is_best():
    scores, preserved = np.array([1.0, 0.97, 0.4]), np.array([20.0, 30.0, 60.0])
    assert best_of(scores, preserved) == 0 and best_of(scores, preserved, 0.05) == 1
    assert best_of(np.full(3, np.nan), preserved) == 2
    assert best_of(scores, np.array([20.0, np.nan, 60.0]), 0.05) == 0


ROW = {"render_id": "a", "seed": 5, "candidates": 3, "image_id": None, "chosen_by": "judge", "chosen_by_model": "j@1"}


def brightness(measure, rows, pixels) -> np.ndarray:
    return np.array([float(each.mean()) for each in pixels])


def grey(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def test_candidates_wait_for_one_another_and_those_that_fail_are_left_out():
    choosing, rows = Choosing(brightness), [row for row, _ in expanded([(ROW, None)])]
    choosing.add(rows[:1], [lambda: grey(9)])
    assert choosing.take() == ([], [])
    choosing.fail(rows[1], Reject("a", "BadItem", "too dark"))
    choosing.add(rows[2:], [lambda: grey(10)])
    [row], [picture] = choosing.take()
    assert picture()[0, 0, 0] == 10 and row["seed"] == 5 and choosing.rejects == []
    assert row["choice"]["chosen_seed"] == rows[2]["seed"] and row["choice"]["candidate_scores"] == [9.0, 10.0]
    assert note(choosing.counts) == "pictures with candidates: 1, another than the first: 1"


def test_a_picture_none_of_whose_candidates_can_be_rendered_has_one_reject():
    choosing = Choosing(brightness)
    for number, (row, _) in enumerate(expanded([(ROW, None)])):
        choosing.fail(row, Reject("a", "BadItem", f"reason {number}"))
    assert choosing.take() == ([], []) and [reject.sentence for reject in choosing.rejects] == ["reason 0"]


def test_a_run_without_candidates_has_no_note():
    assert note(Counter()) == ""


def edited(changed: int, by: int, masked: int = 4) -> Edited:
    """An edit that brightens the first columns; its mask has others."""
    source, mask = grey(100), np.zeros((8, 8), np.float32)
    mask[:, :masked] = 1
    edit = source.copy()
    edit[:, :changed] += np.uint8(by)
    return Edited(source, source, edit, source, mask, EditOptions(preserve="none"))


@pytest.mark.parametrize("image_id", [None, "photo"])
def test_of_edits_that_show_the_sound_the_one_that_keeps_the_rest_is_kept(image_id):
    choosing = Choosing(lambda measure, rows, pixels: np.array([1.0, 1.0, 0.5]))
    rows = [row for row, _ in expanded([(ROW | {"image_id": image_id}, None)])]
    choosing.add(rows, [edited(8, 50), edited(6, 50), edited(5, 50)])
    [row], [picture] = choosing.take()
    assert row["choice"]["chosen_seed"] == rows[1]["seed"] and picture.edit[0, 6, 0] == 100
    assert row["choice"]["candidate_preserved_db"] == pytest.approx([14.15, 18.92, 100.0], abs=0.01)


def test_of_two_edits_of_a_photo_that_show_the_sound_the_one_with_the_smaller_mask_is_kept():
    choosing = Choosing(lambda measure, rows, pixels: np.ones(2))
    rows = [row for row, _ in expanded([(ROW | {"image_id": "photo", "candidates": 2}, None)])]
    choosing.add(rows, [edited(6, 50, masked=6), edited(4, 50)])
    [row], _ = choosing.take()
    assert row["choice"]["chosen_seed"] == rows[1]["seed"]
    assert row["choice"]["candidate_preserved_db"] == pytest.approx([18.92, 100.0], abs=2.0)


def test_edits_are_chosen_with_what_they_preserve(run, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8), "png"))
    shared = {"mode": "edit", "source_prompt": "a city", "prompt": "a * city", "limit": 1, "candidates": 2, "steps": 4}
    photos = {"source_images": str(photo), "name": "photo", "edit": {"preserve": "latents"}}
    render(run, jobs_of(run, shared, shared | photos))
    rows = {row["job"]: row for row in rows_of(run)}
    assert set(rows) == {"job 1", "photo"} and (rows["photo"]["width"], rows["photo"]["height"]) == (96, 80)
    assert all(len(row["candidate_scores"]) == 2 and row["chosen_by"] == "judge" for row in rows.values())
    assert rows["job 1"]["candidate_preserved_db"] in (None, [100.0, 100.0])
