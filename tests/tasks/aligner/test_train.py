"""Two Ray Train workers and one process train alike."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from aai.align.pair_vectors import PairVectors
from aai.align.train_options import TrainAlignerOptions
from aai.errors import BadConfig
from tasks.aligner.train import Job, run_training, smaller_batch
from tests.align.pairs import write_pairs

OPTIONS = TrainAlignerOptions(batch=32, epochs=1, min_steps=30, hidden_dim=32, evaluations=30, same_class=0.1)


def job_in(folder: Path, name: str, num_workers: int) -> Job:
    (folder / name).mkdir()
    return Job(folder / "pairs", OPTIONS, "digest", folder / name / "checkpoint.safetensors", 0, num_workers, "local")


def ignore(*of_step: object) -> None:
    pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray Train itself
def test_two_ray_train_workers_have_the_loss_of_one(tmp_path):
    assert len(write_pairs(tmp_path / "pairs", 200)) == 200
    one = run_training(job_in(tmp_path, "one", 1), ignore, Event())
    two = run_training(job_in(tmp_path, "two", 2), ignore, Event())
    assert two.is_finished and len(two.progress.curve) == len(one.progress.curve) == 30
    for name in ("train loss", "validation loss"):
        losses = [[row[name] for row in trained.progress.curve] for trained in (one, two)]
        assert np.abs(np.subtract(*losses)).max() < 1e-3
    with torch.inference_mode():
        audio = torch.from_numpy(PairVectors.open(tmp_path / "pairs").audio.astype(np.float32))
        assert torch.allclose(one.projector(audio), two.projector(audio), atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray Train itself
def test_what_the_training_refuses_is_said_by_the_driver(tmp_path):
    write_pairs(tmp_path / "pairs", 10)
    with pytest.raises(BadConfig) as caught:
        run_training(job_in(tmp_path, "two", 2), ignore, Event())
    assert caught.value.key == "pairs"


@pytest.mark.parametrize(
    ("num_workers", "num_pairs", "sizes"),
    [(1, 31, None), (2, 200, None), (2, 31, ("30", "31")), (3, 200, ("30", "32"))],
)
def test_a_batch_that_workers_cannot_share_equally_is_said(tmp_path, num_workers, num_pairs, sizes):
    notes = smaller_batch(job_in(tmp_path, "some", num_workers), num_pairs)
    assert len(notes) == bool(sizes)
    assert not sizes or notes[0].startswith("a batch has {} pairs, and not {} as".format(*sizes))
