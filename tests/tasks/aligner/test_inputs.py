"""What enters the trained blocks is written once; a stopped run goes on where it was."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest

from aai.errors import BadConfig
from tasks.aligner.config import bank_of, load_training
from tasks.aligner.inputs import INPUTS, write_inputs
from tasks.aligner.pairs import Pairs
from tasks.aligner.whole import embed, gather
from tasks.runtime.run import Run
from tasks.stages import open_run
from tests.tasks.aligner.collection import write_pairs, write_training

pytestmark = pytest.mark.usefixtures("models_stay")


@pytest.fixture
def gathered(tmp_path) -> tuple[Run, Pairs]:
    """Eight pairs; three clips go through the encoder at a time."""
    write_pairs(tmp_path / "pairs", 8)
    (tmp_path / "aai.yaml").write_text("embed: {batch_size: 3}")
    path = write_training(tmp_path / "pairs.yaml", {"folder": "pairs"}, config=str(tmp_path / "aai.yaml"))
    training = load_training(path, {})
    run = open_run(bank_of(training))
    embed(run, lambda name, step, run: step(run))
    return run, gather(run, training)


def write(gathered: tuple[Run, Pairs], folder: Path, stop: Event) -> bool:
    run, pairs = gathered
    folder.mkdir(exist_ok=True)
    return write_inputs(run, pairs.table["clip_id"], pairs.vectors, (folder, 1), stop)


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(gathered, tmp_path):
    stopped = Event()
    stopped.set()
    rows = []
    for _ in range(3):
        done = write(gathered, tmp_path / "parts", stopped)
        rows.append(int((np.load(tmp_path / "parts" / INPUTS)[:, 0] != 0).any(axis=1).sum()))
    assert rows == [3, 6, 8] and done
    assert write(gathered, tmp_path / "whole", Event())
    assert (np.load(tmp_path / "parts" / INPUTS) == np.load(tmp_path / "whole" / INPUTS)).all()


def test_a_clip_that_can_no_longer_be_read_is_named(gathered, tmp_path):
    path = tmp_path / "pairs" / "003.flac"
    path.write_bytes(b"damaged")
    with pytest.raises(BadConfig) as caught:
        write(gathered, tmp_path / "whole", Event())
    assert caught.value.uri == str(path)
