"""A report is gathered from any subset of stages; its rejects are those that still matter."""

import subprocess
import sys
from collections import Counter

import pytest

from aai.identity import content_id
from aai.report import Report, page
from tasks.runtime.run import Run
from tasks.views.report import gather, sample
from tests.bank import add_files, append, rows_of, run_on
from tests.gallery import (
    JOBS,
    SOUNDS,
    Sound,
    add_clips,
    add_cues,
    add_neighbours,
    add_renders,
    add_scores,
    make_gallery,
)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Run:
    """A gallery with scores; its files and rows stay as they are."""
    run = make_gallery(tmp_path_factory.mktemp("gallery"))
    add_scores(run)
    return run


@pytest.fixture(scope="module")
def gathered(gallery) -> Report:
    return gather(gallery, 100)


def test_totals_and_scores_are_of_the_whole_bank(gallery):
    small = gather(gallery, 2)
    assert len(small.cards) == 2 and small.num_clips == len(SOUNDS)
    assert {name: num for name, num, _ in small.totals} == {
        "clips": 6, "images": 3, "cues": 6, "pictures": 18, "rejects": 3
    }  # fmt: skip
    assert [(line.job, line.num) for line in small.lines] == [(None, 18), *((job, 6) for job in sorted(JOBS))]


def test_rows_of_earlier_configurations_are_counted_apart(gallery):
    other = run_on(gallery.workspace.uri, fit={"method": "inversion"})
    totals = {name: (num, note) for name, num, note in gather(other, 1).totals}
    assert totals["cues"] == (0, "6 of earlier configurations") and totals["clips"] == (6, "")


def test_rejects_for_the_same_reason_come_together(gathered):
    silent, empty = gathered.rejects
    assert (silent.num, silent.reason) == (2, "silent: the loudest part has … dBFS, below … dBFS")
    assert silent.examples[0] == ("/sounds/a.wav", "silent: the loudest part has -90 dBFS, below -60 dBFS")
    assert (empty.num, empty.stage) == (1, "ingest_audio")


def reject(run: Run, item_id: str, sentence: str, of: str = "cues", **columns) -> None:
    stage = run.stage_of(of).name
    append(run, "rejects", [{"id": item_id, "stage": stage, "sentence": sentence} | columns], of=of)


def reasons(run: Run) -> dict[str, int]:
    return {kind.reason: kind.num for kind in gather(run, 1).rejects if kind.stage == "fit"}


def test_rejects_that_no_longer_matter_are_left_out(tmp_path):
    run = run_on(tmp_path / "bank")
    finished, rejected = add_clips(run, tmp_path / "sounds", SOUNDS[:2])
    add_neighbours(run, tmp_path / "images", [finished, rejected])
    reject(run, rejected, "it is rejected")
    reject(run, finished, "it succeeded later")
    reject(run, content_id(b"gone"), "it is no longer upstream")
    add_cues(run, [finished])
    assert reasons(run) == {"it is rejected": 1}
    add_cues(run, [rejected])
    assert reasons(run) == {}


def test_the_last_reject_of_an_item_counts(tmp_path):
    run = run_on(tmp_path / "bank")
    [clip_id] = add_clips(run, tmp_path / "sounds", SOUNDS[:1])
    add_neighbours(run, tmp_path / "images", [clip_id])
    reject(run, clip_id, "the new reason", rejected_at=1_767_225_600_000_009)
    reject(run, clip_id, "the old reason")
    assert reasons(run) == {"the new reason": 1}


def test_a_rejected_part_of_a_finished_item_is_shown(tmp_path):
    run = run_on(tmp_path / "bank")
    [clip_id] = add_clips(run, tmp_path / "sounds", SOUNDS[:1])
    [image] = add_neighbours(run, tmp_path / "images", [clip_id], num=1)
    add_cues(run, [clip_id])
    reject(run, content_id(image.read_bytes()), "the image changed", part_of=clip_id, uri=str(image))
    [kind] = gather(run, 1).rejects
    assert (kind.stage, kind.examples) == ("fit", [(str(image), "the image changed")])


def test_an_image_that_several_clips_lack_is_one_fault(tmp_path):
    run = run_on(tmp_path / "bank")
    clip_ids = add_clips(run, tmp_path / "sounds", SOUNDS[:2])
    [image] = add_neighbours(run, tmp_path / "images", clip_ids, num=1)
    add_cues(run, clip_ids)
    for number, clip_id in enumerate(clip_ids):
        at = 1_767_225_600_000_000 + number
        reject(run, content_id(image.read_bytes()), "the image changed", part_of=clip_id, rejected_at=at)
    assert reasons(run) == {"the image changed": 1}


def test_times_are_summed_per_stage_and_the_rate_is_that_of_the_last_run(gathered):
    [fit] = gathered.stages
    assert (fit.num_runs, fit.new, fit.rejected, fit.took_s, fit.share) == (2, 5, 1, 25, 1)
    assert (fit.last_rate, fit.stopped, fit.last_started) == (pytest.approx(0.4), True, "2026-01-03 03:04:05")


def test_origins_name_every_recipe_with_its_models(gallery, gathered):
    origins = {origin.name: origin for origin in gathered.origins}
    assert origins["cues"].recipe == gallery.recipe("cues") and '"method": "mapper"' in origins["cues"].options
    assert origins["index"].num is None and origins["clips"].num == len(SOUNDS)
    assert dict(origins["cues"].models)["diffusion"] == "@".join(gallery.revision("diffusion"))


def test_clips_are_sampled_evenly_over_labels(tmp_path):
    run = run_on(tmp_path / "bank")
    labels = ["rain"] * 40 + ["fire"] * 5 + [None] * 3
    ids = [content_id(b"%d" % number) for number in range(len(labels))]
    files = [{"uri": f"/{id}.wav", "content_id": id, "label": label} for id, label in zip(ids, labels, strict=True)]
    add_files(run, "audio", files)
    append(run, "clips", [{"clip_id": id, "content_id": id} for id in ids])
    label_of = dict(zip(ids, labels, strict=True))
    assert Counter(label_of[clip_id] for clip_id in sample(run, 9)) == {"rain": 3, "fire": 3, None: 3}
    assert Counter(label_of[clip_id] for clip_id in sample(run, 14)) == {"rain": 6, "fire": 5, None: 3}
    assert len(sample(run, 1000)) == len(set(sample(run, 1000))) == len(labels)
    assert sample(run, 9) == sample(run, 14)[:9]


def test_a_page_shows_missing_files_as_missing(tmp_path):
    run = make_gallery(tmp_path, SOUNDS[:1])
    (tmp_path / "sounds" / SOUNDS[0].name).unlink()
    html = page(gather(run, 100))
    assert "No audio" in html and "gone" in html


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
        add_renders(run, clip_ids, [(sound.phenomenon, sound.intensity) for sound in SOUNDS])
    report = gather(run, 100)
    assert len(report.cards) == (0 if stages == "nothing" else len(SOUNDS))
    assert page(report).startswith("<!DOCTYPE html>")


def test_generations_of_two_methods_are_side_by_side_on_a_card(tmp_path):
    sounds = [Sound("fire", 0.5, "fire", "fire.flac")]
    first = make_gallery(tmp_path, sounds)
    add_scores(first)
    second = run_on(tmp_path / "bank", fit={"method": "inversion"})
    [clip_id] = [row["clip_id"] for row in rows_of(first, "clips")]
    add_cues(second, [clip_id])
    add_renders(second, [clip_id], [("fire", 0.5)])
    [card] = gather(second, 100).cards
    assert card.methods == ["inversion", "mapper"] and card.cue.method == "inversion"
    assert set(card.scores) == {"", "mapper"}
    assert [line.is_current for line in gather(second, 100).lines] == [False] * 4


def test_a_report_loads_no_model_library_and_no_ray():
    probe = (
        "import sys, flows.app.report, tasks.views.results; "
        "print(*sorted({'torch', 'ray', 'prefect', 'transformers', 'diffusers'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
