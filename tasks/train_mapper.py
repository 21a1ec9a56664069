"""Train the mapper that all clips share, on a sample of the bank's clips and the images retrieved for them."""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aai.cues.options import FitOptions, TrainMapperOptions
from aai.errors import BadConfig
from aai.media.options import IngestOptions
from aai.retrieve.options import RetrieveOptions
from tasks.runtime.arrow import to_array
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.image_prompts import ImagePrompts, names_places, prompt_settings, prompts_of
from tasks.runtime.indexes import open_index
from tasks.runtime.models import check_templates, image_role, initial_cue, open_diffusion
from tasks.runtime.passes import Passes
from tasks.runtime.run import Run
from tasks.runtime.sharing import closing_stream
from tasks.runtime.signals import stopping_on_signals
from tasks.runtime.stage import Context, Stage
from tasks.runtime.supervision import SUPERVISED_CLIPS, locations_of, with_images
from tasks.runtime.work import Outcome, Reject

if TYPE_CHECKING:
    from torch import Tensor

    from aai.cues.denoising import ClipToFit
    from aai.cues.train_mapper import MapperTraining

METHODS = ("adapter", "mapper")
"""The methods of `fit` that start from a mapper."""

_ROUND_STEPS = 20
"""Training steps between two states from which another worker can go on."""

_WIDER, _MAX_NEAREST = 4, 256
"""Images are looked for among four times as many as are wanted, because clips share them; at most so many a clip."""

_CONFIG, _WEIGHTS, _STATE = "config.json", "model.safetensors", "state"
_KEY = "first_step"
_VECTORS = "SELECT v.image_id, v.vector FROM image_vectors v SEMI JOIN wanted w ON v.image_id = w.id"
_IMAGES = pa.schema(
    [
        ("clip_id", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("image_ids", pa.list_(pa.string())),
        ("uri", pa.string()),
    ]
)
_ROUND = pa.schema(
    [(_KEY, pa.string()), ("num_steps", pa.int64()), (_STATE, pa.binary()), ("clip_ids", pa.list_(pa.string()))]
)

_log = logging.getLogger(__name__)


class MapperTrainer:
    """Trains in rounds. A round is a slice of one row, which carries the state of the training."""

    def __init__(self, context: Context) -> None:
        from tasks.runtime.latents import Latents

        self.context, options = context, context.options(TrainMapperOptions)
        self.diffusion = open_diffusion(context.config)
        prompts, most = prompts_of(context.config), options.batch_size
        check_templates(self.diffusion, prompts, options.num_tokens, "train_mapper.templates")
        self.passes = Passes(context, MAPPER.name, self.diffusion, options.num_tokens, options.max_rows, most)
        self.options = options.model_copy(update={"max_rows": self.passes.max_rows, "templates": prompts})
        self.latents = Latents(context.options(IngestOptions).images, self.diffusion)
        self.clips: list[ClipToFit] = []
        self.images: list[ClipToFit] = []
        self.training: MapperTraining | None = None

    def __call__(self, rows: pa.Table) -> Outcome:
        """Do a round; the files are the new state, and after the last step the mapper, too.

        Raises:
            BadConfig: no image of the sample can be read.
            Transient: the store failed.
        """
        [row] = rows.to_pylist()
        first, until = int(row[_KEY]), int(row[_KEY]) + row["num_steps"]
        if self.training is None or not first <= self.training.step < until:
            self.training = self._training(row)
        with self.passes.work(self.training.max_rows):
            self.training.run(until - self.training.step)  # after an out-of-memory error a part is done already
        self.training.max_rows = min(self.training.max_rows, self.passes.max_rows)
        self._check_finite()
        files = {_STATE: self.training.state()}
        if self.training.step >= self.options.steps:
            with tempfile.TemporaryDirectory() as folder:
                self.training.result().cpu().save(folder)
                files |= {name: Path(folder, name).read_bytes() for name in (_CONFIG, _WEIGHTS)}
        return Outcome(pa.table({_KEY: [row[_KEY]]}), files=files)

    def _check_finite(self) -> None:
        """Stop a training that diverged.

        Raises:
            BadConfig: a weight is not finite.
        """
        assert self.training is not None, "a round has begun"
        if not all(weight.isfinite().all() for weight in self.training.mapper.parameters()):
            sentence = f"its weights are not finite after step {self.training.step}: lower the rate"
            raise BadConfig(f"{sentence}, or set models.dtype to float32", key="train_mapper.learning_rate")

    def halve_batch(self) -> bool:
        """Halve the micro-batch."""
        return self.training is not None and self.training.halve_memory()

    def _training(self, row: dict[str, Any]) -> "MapperTraining":
        from aai.cues.train_mapper import MapperTraining

        if not self.clips:
            self._load(row["clip_ids"])
        start, seed = initial_cue(self.context, self.diffusion, self.options.num_tokens), self.context.config.seed
        return MapperTraining(self.diffusion, self.clips, start, self.options, seed, row[_STATE], self.images)

    def _load(self, clip_ids: list[str]) -> None:
        """The clips of the sample with their images, and images that stand for clips."""
        self.clips = self._load_clips(clip_ids)
        retrieved = list(dict.fromkeys(id for clip in self.clips for id in clip.image_ids))
        chosen = self._choose_images(retrieved) if self.options.image_share else []
        vectors = self._vectors_of({*retrieved, *chosen}) if _needs_vectors(self.context.config) else {}
        self.images = self._load_images(chosen, vectors)
        if names_places(self.context.config):
            weights = self._weights_of(vectors)
            pairs = (self.clips, self.images)
            self.clips, self.images = ([_weighted(clip, weights) for clip in own] for own in pairs)

    def _choose_images(self, retrieved: list[str]) -> list[str]:
        """The images that stand for clips: those retrieved first, then the nearest of each clip in turn."""
        num = self.options.num_images
        if len(retrieved) >= num or self.context.options(RetrieveOptions).method != "audio":
            return retrieved[:num]
        images, _ = open_index(self.context, self)
        queries = np.stack([clip.aligned.numpy() for clip in self.clips])
        numbers, _ = images.index.search(queries, min(_MAX_NEAREST, math.ceil(_WIDER * num / len(queries))))
        ranked = numbers.T[numbers.T >= 0]  # the best of every clip, then every second one and so on
        nearest = np.array([*dict.fromkeys(ranked.tolist())], np.int64)
        return list(dict.fromkeys([*retrieved, *images.ids_of(nearest)]))[:num]

    def _load_images(self, image_ids: list[str], vectors: "dict[str, Tensor]") -> "list[ClipToFit]":
        """Images as clips; those that cannot be read are left out."""
        if not image_ids:
            return []
        listed = [{"clip_id": id, "vector": vectors[id].tolist(), "image_ids": [id], "uri": None} for id in image_ids]
        with self.context.query() as query:
            table = pa.Table.from_pylist(listed, schema=_IMAGES)
            [rows] = with_images([table], locations_of(query, table))
        rejects: list[Reject] = []
        images = self.latents.clips(rows, rejects)
        if rejects:
            _log.warning("train_mapper: left out images that cannot be read: %d; %s", len(rejects), rejects[0].sentence)
        return images

    def _load_clips(self, clip_ids: list[str]) -> "list[ClipToFit]":
        with self.context.query() as query:
            query.keep_ids("sample", clip_ids)
            sql = f"SELECT r.* FROM ({SUPERVISED_CLIPS}) r SEMI JOIN sample s ON r.clip_id = s.id"
            query.narrow("sample", "clip_id", sql)
            found = query.table(sql)
            [rows] = with_images([found], locations_of(query, found))
        rejects: list[Reject] = []
        clips = self.latents.clips(rows.sort_by("clip_id"), rejects)
        if not clips:
            raise BadConfig(f"no clip has an image that can be read: {rejects[0].sentence}", key="train_mapper")
        return clips

    def _vectors_of(self, image_ids: set[str]) -> "dict[str, Tensor]":
        """The vectors of images."""
        import torch

        ids = sorted(image_ids)
        with self.context.query() as query:
            query.keep_ids("wanted", ids)
            query.narrow("wanted", "image_id", _VECTORS)
            found = query.table(_VECTORS).sort_by("image_id")
        assert found["image_id"].to_pylist() == ids, "what was retrieved has a vector"
        return dict(zip(ids, torch.from_numpy(to_array(found["vector"])), strict=True))

    def _weights_of(self, vectors: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """The weight of each prompt for each image."""
        import torch

        weights = ImagePrompts(self.context.config)(torch.stack([*vectors.values()]).numpy())
        return dict(zip(vectors, torch.from_numpy(weights), strict=True))


def _weighted(clip: "ClipToFit", weights: "dict[str, Tensor]") -> "ClipToFit":
    import torch

    return replace(clip, weights=torch.stack([weights[id] for id in clip.image_ids]))


class _Rounds:
    """The rounds as slices; the next one is available once the result of the last is there."""

    def __init__(self, num_steps: int, clip_ids: list[str]) -> None:
        self.num_steps, self.clip_ids = num_steps, clip_ids
        self.step, self.files = 0, dict[str, bytes]()
        self._is_waiting = False

    def __iter__(self) -> Iterator[pa.Table | None]:
        while self.step < self.num_steps:
            if self._is_waiting:
                yield None
                continue
            self._is_waiting = True
            num = min(_ROUND_STEPS, self.num_steps - self.step)
            row = {_KEY: str(self.step), "num_steps": num, _STATE: self.files.get(_STATE), "clip_ids": self.clip_ids}
            yield pa.Table.from_pylist([row], schema=_ROUND)

    def finish(self, files: dict[str, bytes]) -> None:
        """Take in the result of a round."""
        self.step, self.files, self._is_waiting = min(self.step + _ROUND_STEPS, self.num_steps), files, False


def train_mapper(run: Run) -> StageSummary:
    """Train the mapper, once per recipe.

    Raises:
        BadConfig: no clip has neighbours to train on.
        Transient: the store failed, or a worker failed too often.
    """
    return run.make_artifact("mapper", 1, partial(_train, run))


def _train(run: Run, folder: Path, beat: Callable[[], None]) -> int:
    """Train where the GPUs are, and write the mapper's files."""
    clip_ids, start_s = _sample(run), time.monotonic()
    rounds = _Rounds(run.config.options(TrainMapperOptions).steps, clip_ids)
    progress = run.watch(MAPPER.name) if run.watch else None
    pool = run.config.pool_of(MAPPER.name, 1)
    workers = run.workers.open(partial(MapperTrainer, run.context()), _KEY, pool, MAPPER.takes_gpu)
    with stopping_on_signals(run.stop), closing_stream(workers.map(rounds, run.stop)) as results:
        for finished in results:
            for done in finished:
                if done.outcome.rejects:
                    raise BadConfig(f"training failed: {done.outcome.rejects[0].sentence}", key="train_mapper")
                rounds.finish(done.outcome.files)
                beat()
            if progress and finished:
                progress(rounds.step, rounds.num_steps, rounds.step / (time.monotonic() - start_s))
    if _WEIGHTS not in rounds.files:
        raise BadConfig("it was stopped before the mapper was trained: run `aai build` again", key="train_mapper")
    for name in (_CONFIG, _WEIGHTS):
        (folder / name).write_bytes(rounds.files[name])
    return len(clip_ids)


def _sample(run: Run) -> list[str]:
    """Clips to train on, chosen by the run's seed among those that have neighbours."""
    num = run.config.options(TrainMapperOptions).num_clips
    with run.query() as query:
        ids = query.table(
            f"SELECT clip_id FROM neighbours n SEMI JOIN present_audio_ids p ON n.clip_id = p.id "
            f"ORDER BY md5(clip_id || '{run.config.seed}'), clip_id LIMIT {num}"
        )["clip_id"].to_pylist()
    if not ids:
        raise BadConfig("no clip has neighbours to train on: look into the table `rejects`", key="train_mapper")
    return sorted(ids)


def _is_trained(config: Config) -> bool:
    return config.options(TrainMapperOptions).method != "shipped" and config.options(FitOptions).method in METHODS


def _needs_vectors(config: Config) -> bool:
    return names_places(config) or config.options(TrainMapperOptions).image_share > 0


def _reads(config: Config) -> tuple[str, ...]:
    searches = config.options(TrainMapperOptions).image_share > 0
    vectors = ["image_vectors"] if _needs_vectors(config) else []
    return ("neighbours", "aligned_vectors", *vectors, *(["index"] if searches else []))


def _models(config: Config) -> tuple[str, ...]:
    return ("diffusion", *([image_role(config)] if names_places(config) else []))


def _settings(config: Config) -> Mapping[str, Any]:
    settings = config.options(TrainMapperOptions).settings()
    del settings["places"]
    if not settings["image_share"]:  # the mapper is the one before there was such a share
        del settings["image_share"], settings["num_images"]
    return settings | (prompt_settings(config) if names_places(config) else {})


MAPPER = Stage(
    name="train_mapper",
    table="mapper",
    reads=_reads,
    options=TrainMapperOptions,
    settings=_settings,
    models=_models,
    is_seeded=True,
    make=train_mapper,
    gpu=True,
    is_needed=_is_trained,
    code_version=3,
)
