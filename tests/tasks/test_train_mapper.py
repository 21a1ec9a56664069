"""The mapper is trained once, in rounds: a killed worker or short memory loses a round at most, and changes nothing."""

import os
import signal
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from aai.cues.mapper import CueMapper
from aai.cues.train_mapper import MapperTraining
from aai.errors import BadConfig
from tasks import train_mapper
from tasks.fit import CUES
from tasks.runtime.models import open_mapper
from tasks.runtime.run import Run
from tasks.runtime.work import WorkerRunner
from tasks.train_mapper import MAPPER, MapperTrainer, _Rounds, _sample
from tests import bank
from tests.bank import CLIPS, append, rows_of
from tests.collection import NUM_CLIPS, build, run_on

QUICK = {"method": "learned", "steps": 4, "batch_size": 2, "num_clips": 3}


def run_with(folder: Path, **keys) -> Run:
    return run_on(folder, train_mapper=QUICK | keys)


@pytest.fixture
def short_rounds(monkeypatch) -> None:
    """Two steps a round, so that four steps are two rounds."""
    monkeypatch.setattr(train_mapper, "_ROUND_STEPS", 2)


def weights_of(mapper: CueMapper) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in mapper.parameters()])


def test_a_bank_trains_its_own_mapper_once(shared_collection):
    run = run_with(shared_collection)
    assert run.do(MAPPER).new == 3
    assert (run.do(MAPPER).new, run.do(MAPPER).done) == (0, 1)
    assert open_mapper(run.context()).num_tokens == 2
    assert run.do(CUES).new == NUM_CLIPS
    shipped = run_on(shared_collection)
    assert shipped.recipe("cues") != run.recipe("cues") and shipped.do(MAPPER).new == 0


def test_a_method_without_a_mapper_trains_none(shared_collection):
    run = run_on(shared_collection, train_mapper=QUICK, fit={"method": "inversion"})
    assert not MAPPER.is_needed(run.config) and run.do(MAPPER).new == 0


def test_the_sample_is_drawn_by_the_seed_of_the_run(tmp_path):
    samples = []
    for seed in (0, 1, 2, 3, 0):
        run = bank.run_on(tmp_path / f"{len(samples)}", train_mapper=QUICK | {"num_clips": 2}, seed=seed)
        bank.add_clips(run)
        append(run, "neighbours", [{"clip_id": id, "image_ids": [], "similarities": []} for id in CLIPS])
        samples.append(_sample(run))
    assert all(len(set(sample)) == 2 for sample in samples)
    assert samples[0] == samples[-1] and len(set(map(tuple, samples))) > 1


def test_progress_counts_steps(shared_collection, short_rounds):
    run, calls = run_with(shared_collection, learning_rate=1e-3), []
    run.watch = lambda stage: lambda done, total, rate: calls.append((stage, done, total))
    run.do(MAPPER)
    assert calls == [("train_mapper", 2, 4), ("train_mapper", 4, 4)]


def test_rounds_become_available_one_after_the_other():
    rounds = _Rounds(50, ["clip"])
    slices = iter(rounds)
    first = next(slices)
    assert next(slices) is None, "it waits for the result"
    rounds.finish({"state": b"after 20"})
    second = next(slices)
    rounds.finish({"state": b"after 40"})
    last = next(slices)
    rounds.finish({"state": b"after 50"})
    assert list(slices) == []
    columns = ["first_step", "num_steps", "state"]
    assert [tuple(rows.to_pylist()[0][name] for name in columns) for rows in (first, second, last)] == [
        ("0", 20, None), ("20", 20, b"after 20"), ("40", 10, b"after 40"),
    ]  # fmt: skip


def train(run: Run, make_worker) -> CueMapper:
    """Train as the stage does, with workers of `make_worker(number of the round)`."""
    rounds = _Rounds(4, _sample(run))
    for number, rows in enumerate(rounds):
        rounds.finish(make_worker(number)(rows).files)
    folder = Path(run.workspace.uri).parent / f"mapper {os.urandom(4).hex()}"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(rounds.files[name])
    return CueMapper.load(folder)


def test_another_worker_goes_on_from_the_last_round_to_the_same_mapper(shared_collection, short_rounds):
    run = run_with(shared_collection)
    one = MapperTrainer(run.context())
    expected = train(run, lambda number: one)
    continued = train(run, lambda number: MapperTrainer(run.context()))
    torch.testing.assert_close(weights_of(continued), weights_of(expected), rtol=0, atol=1e-6)


def test_a_round_that_is_repeated_gives_the_same_mapper(shared_collection, short_rounds):
    """As after a worker that died: its result did not arrive, and the round goes to another one, or even to itself."""
    run = run_with(shared_collection)
    worker, repeated = MapperTrainer(run.context()), MapperTrainer(run.context())

    def twice(number: int):
        return lambda rows: (repeated(rows), repeated(rows))[1]

    expected = train(run, lambda number: worker)
    torch.testing.assert_close(weights_of(train(run, twice)), weights_of(expected), rtol=0, atol=1e-6)


def test_short_memory_in_a_round_gives_the_same_mapper(shared_collection, short_rounds, monkeypatch):
    run = run_with(shared_collection)
    worker = MapperTrainer(run.context())
    expected = train(run, lambda number: worker)
    step, failures = MapperTraining._train_step, []

    def fail_once(training):
        if training.step == 3 and not failures:
            failures.append(training.max_rows)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(training)

    monkeypatch.setattr(MapperTraining, "_train_step", fail_once)
    runner = WorkerRunner("first_step")
    runner.load(partial(MapperTrainer, run.context()))
    mapper = train(run, lambda number: lambda rows: runner.run(rows).outcome)
    assert failures == [2] and runner.num_halvings == 1 and runner.worker.training.max_rows == 1
    torch.testing.assert_close(weights_of(mapper), weights_of(expected), rtol=0, atol=1e-6)


def test_short_memory_before_the_first_step_is_halved_too(shared_collection, monkeypatch):
    run, step = run_with(shared_collection, learning_rate=2e-3), MapperTraining._train_step

    def fail_when_large(training):
        if training.max_rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(training)

    monkeypatch.setattr(MapperTraining, "_train_step", fail_when_large)
    assert run.do(MAPPER).new == 3


def test_memory_too_short_for_a_single_row_ends_the_build_with_the_reason(shared_collection, monkeypatch):
    def fail(training):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MapperTraining, "_train_step", fail)
    run = run_with(shared_collection, learning_rate=3e-3)
    with pytest.raises(BadConfig, match="training failed: it does not fit into memory") as error:
        run.do(MAPPER)
    assert error.value.key == "train_mapper"
    assert not run.workspace.artifact("mapper", run.recipe("mapper")).exists()


def test_a_stop_leaves_no_mapper_and_the_next_run_trains_it(shared_collection, short_rounds):
    run = run_with(shared_collection, learning_rate=4e-3)
    run.watch = lambda stage: lambda *now: run.stop.set()
    with pytest.raises(BadConfig, match="it was stopped before the mapper was trained"):
        run.do(MAPPER)
    assert run_with(shared_collection, learning_rate=4e-3).do(MAPPER).new == 3


def test_a_bank_without_neighbours_has_nothing_to_train_on(tmp_path):
    run = run_with(tmp_path)
    with pytest.raises(BadConfig, match="no clip has neighbours to train on") as error:
        run.do(MAPPER)
    assert error.value.key == "train_mapper"


def test_a_sample_without_any_readable_image_ends_the_build(built, collection):
    run = run_with(collection)
    for path in (collection / "images").iterdir():
        path.write_bytes(path.read_bytes() + b"damage")
    with pytest.raises(BadConfig, match="no clip has an image that can be read") as error:
        run.do(MAPPER)
    assert error.value.key == "train_mapper"


class Mortal(MapperTrainer):
    """Dies in its second round, once."""

    def __call__(self, rows: pa.Table):
        marker = Path(self.context.workspace.uri).parent / "died"
        if rows["first_step"][0].as_py() != "0" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(rows)


@pytest.mark.chaos
def test_a_worker_that_is_killed_in_a_round_costs_that_round_alone(collection, monkeypatch):
    undisturbed = run_on(collection, train_mapper=QUICK | {"steps": 40})
    build(undisturbed, until="retrieve")
    worker, rounds = MapperTrainer(undisturbed.context()), _Rounds(40, _sample(undisturbed))
    for rows in rounds:
        rounds.finish(worker(rows).files)
    monkeypatch.setattr(train_mapper, "MapperTrainer", Mortal)
    run = run_on(collection, train_mapper=QUICK | {"steps": 40}, pool={"address": "local", "num_workers": 1})
    assert run.do(MAPPER).new == 3 and (collection / "died").exists()
    artifact = run.workspace.artifact("mapper", run.recipe("mapper"))
    (collection / "expected").mkdir()
    for name in ("config.json", "model.safetensors"):
        (collection / "expected" / name).write_bytes(rounds.files[name])
    mappers = CueMapper.load(artifact.fetch(collection / "fetched")), CueMapper.load(collection / "expected")
    torch.testing.assert_close(*map(weights_of, mappers), rtol=0, atol=1e-5)


def test_the_rows_of_the_sample_have_the_locations_of_their_images(shared_collection):
    run = run_with(shared_collection)
    clips = MapperTrainer(run.context())._load_clips(_sample(run))
    neighbours = {row["clip_id"]: row["image_ids"] for row in rows_of(run, "neighbours")}
    assert [clip.clip_id for clip in clips] == _sample(run)
    assert all(list(clip.image_ids) == neighbours[clip.clip_id] for clip in clips)


def test_images_are_trained_under_the_prompts_that_they_suit(shared_collection):
    """All images of the collection are nouns."""
    worker = MapperTrainer(run_with(shared_collection).context())
    worker._load(_sample(run_with(shared_collection)))
    prompts = worker.options.templates
    without_place = [number for number, prompt in enumerate(prompts) if prompt in ("a photo of *", "a picture of *")]
    shares = []
    for clip in (*worker.clips, *worker.images):
        assert clip.weights.shape == (len(clip.image_ids), len(prompts))
        shares.append(clip.weights[:, without_place].sum(1) / clip.weights.sum(1))
    assert float(torch.cat(shares).mean()) > 0.9


@pytest.mark.parametrize("num_images", [2, 6, 2_000])
def test_images_that_were_retrieved_stand_for_clips_first(shared_collection, num_images):
    run = run_with(shared_collection, templates=["a photo of *"], num_images=num_images)
    worker = MapperTrainer(run.context())
    worker._load(_sample(run))
    vectors = {row["image_id"]: torch.tensor(row["vector"]) for row in rows_of(run, "image_vectors")}
    retrieved = {image_id for clip in worker.clips for image_id in clip.image_ids}
    shown = [image.clip_id for image in worker.images]
    assert len(set(shown)) == len(shown) == min(num_images, len(vectors))
    assert retrieved <= set(shown) or set(shown) <= retrieved
    for image in worker.images:
        assert torch.equal(image.aligned, vectors[image.clip_id]) and image.image_ids == (image.clip_id,)


def test_an_image_that_cannot_be_read_stands_for_no_clip(collection, caplog):
    run = run_on(collection, train_mapper=QUICK | {"templates": ["a photo of *"]})
    build(run, until="retrieve")
    worker = MapperTrainer(run.context())
    worker._load(_sample(run))
    retrieved = {image_id for clip in worker.clips for image_id in clip.image_ids}
    other = next(image.clip_id for image in worker.images if image.clip_id not in retrieved)
    with run.query() as query:
        places = query.table("SELECT image_id, uri FROM present_images").to_pylist()
    [uri] = [row["uri"] for row in places if row["image_id"] == other]
    Path(uri).unlink()
    again = MapperTrainer(run.context())
    again._load(_sample(run))
    assert {image.clip_id for image in worker.images} - {image.clip_id for image in again.images} == {other}
    assert "left out images that cannot be read: 1" in caplog.text


def test_without_a_share_of_images_the_index_is_not_read(shared_collection):
    run = run_with(shared_collection, image_share=0)
    worker = MapperTrainer(run.context())
    worker._load(_sample(run))
    assert worker.images == [] and MAPPER.upstream(run.config) == ("neighbours", "aligned_vectors", "image_vectors")


def test_templates_without_places_keep_the_recipe_and_need_no_vectors(shared_collection):
    plain = run_with(shared_collection, templates=["a photo of *"], image_share=0)
    assert MAPPER.upstream(plain.config) == ("neighbours", "aligned_vectors")
    assert MAPPER.roles(plain.config) == ("diffusion",)
    elsewhere = run_with(shared_collection, templates=["a photo of *"], image_share=0, places=["city"])
    assert elsewhere.recipe("mapper") == plain.recipe("mapper")
    named, other = (run_with(shared_collection, places=[place]) for place in ("city", "desert"))
    assert named.recipe("mapper") != other.recipe("mapper")
    assert MAPPER.roles(named.config) == ("diffusion", "image_text")
