"""What a report gathers: of any subset of stages, and honest about what is gone."""

import subprocess
import sys
from collections import Counter

import pytest

from aai.media.images import encode
from aai.report import Card, Report, page
from aai.tiny.scenes import Scene, render
from tasks.runtime.run import Run
from tasks.views.report import gather, reason_of, sample
from tests.gallery import (
    JOBS,
    SOUNDS,
    Sound,
    add_clips,
    add_cues,
    add_neighbours,
    add_renders,
    add_scores,
    append,
    make_gallery,
    run_on,
)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Run:
    run = make_gallery(tmp_path_factory.mktemp("gallery"))
    add_scores(run)
    return run


@pytest.fixture(scope="module")
def gathered(gallery) -> Report:
    return gather(gallery, 100)


def card_of(report: Report, name: str) -> Card:
    return next(card for card in report.cards if card.file == name)


def test_a_card_holds_all_that_became_of_a_clip(gathered):
    card = card_of(gathered, "downpour.flac")
    assert (card.label, card.intensity, card.duration_s) == ("rain", 0.9, 5)
    assert card.sound.src.startswith("data:audio/mpeg;base64,") and card.sound.top_hz == 8_000
    assert [near.similarity for near in card.neighbours] == pytest.approx([0.9, 0.5, 0.25])
    assert all(near.thumb.src.startswith("data:image/webp;base64,") for near in card.neighbours)
    assert {shown.job for shown in card.shown} == set(JOBS) and card.methods == ["mapper"]
    assert all(picture.thumb.src and picture.scores for shown in card.shown for picture in shown.pictures)
    assert card.scores[""]["judge_phenomenon"] == card.scores["mapper"]["judge_phenomenon"] == 1


def test_a_fitted_cue_has_a_curve_and_a_predicted_one_has_none(gathered):
    fitted = next(card.cue for card in gathered.cards if card.cue.curve)
    assert fitted.curve.num_looks == 3 and 0 < fitted.gain < 0.5
    assert [card.cue.gain for card in gathered.cards].count(None) == 1


def test_totals_and_scores_are_of_the_whole_bank(gallery):
    small = gather(gallery, 2)
    assert len(small.cards) == 2 and small.num_clips == len(SOUNDS)
    assert {name: num for name, num, _ in small.totals} == {
        "clips": 6, "images": 3, "cues": 6, "pictures": 18, "rejects": 3
    }  # fmt: skip
    assert [(line.job, line.num) for line in small.lines] == [(None, 18), *((job, 6) for job in sorted(JOBS))]


def test_rejects_for_the_same_reason_stand_together(gathered):
    silent, empty = gathered.rejects
    assert (silent.num, silent.reason) == (2, "silent: the loudest part has … dBFS, below … dBFS")
    assert silent.examples[0] == ("/sounds/a.wav", "silent: the loudest part has -90 dBFS, below -60 dBFS")
    assert (empty.num, empty.stage) == (1, "ingest_audio")
    assert reason_of("rate of 7 Hz in 'a b'") == reason_of("rate of 8.5 Hz in 'c'") == "rate of … Hz in …"


def test_times_are_summed_per_stage_and_the_last_run_counts_for_the_rate(gathered):
    [fit] = gathered.stages
    assert (fit.num_runs, fit.new, fit.rejected, fit.took_s, fit.share) == (2, 5, 1, 25, 1)
    assert (fit.last_rate, fit.stopped, fit.last_started) == (pytest.approx(0.4), True, "2026-01-03 03:04:05")


def test_origins_name_every_recipe_with_its_models(gallery, gathered):
    made = {each.name: each for each in gathered.made}
    assert made["cues"].recipe == gallery.recipe("cues") and '"method": "mapper"' in made["cues"].options
    assert made["index"].num is None and made["clips"].num == len(SOUNDS)
    assert dict(made["cues"].models)["diffusion"] == gallery.model_pin("diffusion")


def test_clips_are_sampled_evenly_over_labels(tmp_path):
    run = run_on(tmp_path / "bank")
    labels = ["rain"] * 40 + ["fire"] * 5 + [None] * 3
    append(run, "clips", len(labels), clip_id=[f"{number:032}" for number in range(len(labels))], label=labels)
    said = dict(zip(*run.workspace.table("clips").read(["clip_id", "label"]).to_pydict().values(), strict=True))
    assert Counter(said[clip_id] for clip_id in sample(run, 9)) == {"rain": 3, "fire": 3, None: 3}
    assert Counter(said[clip_id] for clip_id in sample(run, 14)) == {"rain": 6, "fire": 5, None: 3}
    assert sample(run, 1000) and len(set(sample(run, 1000))) == len(labels)
    assert sample(run, 9) == sample(run, 14)[:9]


def test_what_is_gone_or_changed_says_so_and_the_rest_is_there(tmp_path):
    run = make_gallery(tmp_path)
    (tmp_path / "sounds" / "rain.flac").unlink()
    (tmp_path / "sounds" / "fire.flac").write_bytes((tmp_path / "sounds" / "embers.flac").read_bytes())
    (tmp_path / "images" / "scene 0.png").unlink()
    other = encode(render([Scene("noun", "clock", None, 0.5, 9)]).pixels[0], "png")
    (tmp_path / "images" / "scene 1.png").write_bytes(other)
    for shard in run.workspace.store.files("shards"):
        (tmp_path / "bank" / shard).unlink()
    report = gather(run, 100)
    gone = "the file is gone since it was found: put it back, or leave it out"
    assert card_of(report, "rain.flac").sound.problem == gone
    assert "changed" in card_of(report, "fire.flac").sound.problem
    assert card_of(report, "downpour.flac").sound.src
    gone, changed, there = card_of(report, "rain.flac").neighbours
    assert "gone" in gone.thumb.problem and "changed" in changed.thumb.problem and there.thumb.src
    picture = card_of(report, "downpour.flac").shown[0].pictures[0]
    assert picture.thumb.src is None and "shard is not there" in picture.thumb.problem
    html = page(report)
    assert "Not to be heard: <bdi>the file is gone" in html and "shard is not there" in html


@pytest.mark.parametrize("stages", ["nothing", "clips", "neighbours", "cues", "renders"])
def test_any_subset_of_stages_makes_a_page(tmp_path, stages):
    run = run_on(tmp_path / "bank")
    if stages != "nothing":
        clip_ids = add_clips(run, tmp_path / "sounds")
    if stages in ("neighbours", "cues", "renders"):
        add_neighbours(run, tmp_path / "images", clip_ids)
    if stages in ("cues", "renders"):
        add_cues(run, clip_ids)
    if stages == "renders":
        add_renders(run, clip_ids, [("rain", 0.5)] * len(clip_ids))
    report = gather(run, 100)
    assert len(report.cards) == (0 if stages == "nothing" else len(SOUNDS))
    html = page(report)
    assert html.count("None yet") == {"nothing": 1, "clips": 18, "neighbours": 12, "cues": 6, "renders": 0}[stages]
    assert "no pictures are scored yet" in html


def test_earlier_generations_stand_beside_the_present_one(tmp_path):
    sounds = [Sound("rain", 0.5, "rain", "rain.flac")]
    first = make_gallery(tmp_path, sounds)
    add_scores(first)
    second = run_on(tmp_path / "bank", fit={"method": "text"})
    [clip_id] = first.workspace.table("clips").ids(first.recipe("clips")).to_pylist()
    add_cues(second, [clip_id])
    add_renders(second, [clip_id], [("fire", 0.5)])
    [card] = gather(second, 100).cards
    assert card.methods == ["text", "mapper"] and card.cue.method == "text"
    assert set(card.scores) == {"", "mapper"}
    assert [line.is_current for line in gather(second, 100).lines] == [False] * 4


def test_many_pictures_of_one_prompt_are_counted_and_not_all_shown(tmp_path):
    run = make_gallery(tmp_path, SOUNDS[:1])
    [row, *_] = run.workspace.table("renders").read().to_pylist()
    more = [row | {"render_id": f"{number:032}", "seed": number} for number in range(9)]
    columns = [name for name in row if name != "recipe"]
    append(run, "renders", 9, **{name: [each[name] for each in more] for name in columns})
    [card] = gather(run, 100).cards
    shown = next(each for each in card.shown if each.job == row["job"])
    assert len(shown.pictures) == 4 and shown.num_more == 6


def test_a_report_loads_no_model_library_and_no_ray():
    probe = (
        "import sys, flows.app.report, tasks.views.results; "
        "print(*sorted({'torch', 'ray', 'prefect', 'transformers', 'diffusers'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
