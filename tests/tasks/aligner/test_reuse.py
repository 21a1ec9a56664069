"""Vectors that a bank has are not made again by a training on the same files."""

import logging
import shutil
from pathlib import Path

import pytest

from tasks.aligner.config import bank_of, load_training
from tasks.aligner.whole import embed
from tasks.runtime.run import Run
from tasks.stages import open_run
from tests.collection import build, run_on, write_collection
from tests.tasks.aligner.collection import write_pairs, write_training

pytestmark = pytest.mark.usefixtures("models_stay")
MAKERS = ("embed_images", "embed_audio")


def embedded(run: Run, bank: Run | None) -> list[int]:
    """New vectors of images and sounds."""
    done = {summary.stage: summary for summary in embed(run, lambda name, step, run: step(run), bank)}
    return [done[name].new for name in MAKERS]


def training_in(folder: Path) -> Run:
    """Four pairs of its own, and two whose files are in the collection, too."""
    pairs = write_pairs(folder / "pairs", 4, seed=50)
    for number, name in enumerate(("rain-0.2", "fire-0.9")):
        shutil.copy(folder / "bank" / "sounds" / f"{name}.flac", pairs / f"known-{number}.flac")
        shutil.copy(folder / "bank" / "images" / f"{number}.png", pairs / f"known-{number}.png")
    return open_run(bank_of(load_training(write_training(folder / "pairs.yaml", {"folder": "pairs"}), {})))


def vectors(run: Run, table: str) -> dict[str, list[float]]:
    rows = run.workspace.table(table).read(recipe=run.recipe(table))
    return dict(zip(rows.column(0).to_pylist(), rows["vector"].to_pylist(), strict=True))


def test_known_clips_and_images_are_taken_from_the_bank(tmp_path, caplog):
    bank = run_on(write_collection(tmp_path / "bank"))
    build(bank, until="embed_audio")
    run = training_in(tmp_path)
    with caplog.at_level(logging.WARNING, "tasks"):
        assert embedded(run, bank) == [4, 4]
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[1] for line in said] == [f" 2 of 6 vectors are taken from {bank.workspace.uri}"] * 2
    for table in ("audio_vectors", "image_vectors"):
        own, theirs = vectors(run, table), vectors(bank, table)
        common = own.keys() & theirs.keys()
        assert len(own) == 6 and len(common) == 2 and all(own[key] == theirs[key] for key in common)
    assert embedded(run, bank) == [0, 0]


@pytest.mark.slow
def test_vectors_of_another_encoder_and_of_a_bank_that_is_not_built_are_not_taken(tmp_path):
    folder = write_collection(tmp_path / "bank")
    other = run_on(folder, "other", ingest={"audio": {"window_s": 1.0}, "images": {"max_pixels": 10_000}})
    build(other, until="embed_audio")
    run = training_in(tmp_path)
    assert other.recipe("audio_vectors") != run.recipe("audio_vectors")
    assert embedded(run, other)[1] == 6
    empty = training_in_again(tmp_path)
    assert embedded(empty, run_on(folder, "empty")) == [6, 6]
    assert not (folder / "empty").exists()


def training_in_again(folder: Path) -> Run:
    """The same training, which has embedded nothing."""
    training = load_training(folder / "pairs.yaml", {"output": "again"})
    return open_run(bank_of(training))
