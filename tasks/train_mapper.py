"""Learn: the mapper that all clips share, from a sample of the bank's own clips; or the shipped one."""

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from aai.cues.mapper import CueMapper
from aai.errors import BadConfig
from aai.identity import seed_of
from tasks.runtime.driver import StageSummary, open_pool
from tasks.runtime.models import open_diffusion
from tasks.runtime.run import PLANS, Run
from tasks.runtime.tables import JoinedSource, TableSource
from tasks.runtime.work import Outcome, Reject

if TYPE_CHECKING:
    from torch import Tensor

    from aai.models.diffusion import Diffusion

METHODS = ("adapter", "mapper")
"""The methods of `fit` that start from a mapper."""

_FILES = ("config.json", "model.safetensors")


def learn(run: Run) -> StageSummary:
    """Learn the mapper, once per recipe; where one is shipped, or none is needed, there is nothing to do.

    Raises:
        BadConfig: no clip has neighbours to learn from.
    """
    if run.config.learn.method == "shipped" or run.config.fit.method not in METHODS:
        return StageSummary(
            PLANS["mapper"].stage, run.recipe("mapper"), done=0, new=0, rejected=0, took_s=0.0, rate=0.0
        )
    return run.make_artifact("mapper", 1, partial(_write, run))


def load_mapper(run: Run) -> CueMapper:
    """The shared mapper of a run.

    Raises:
        BadConfig: none is there.
    """
    if run.config.learn.method == "shipped":
        assert run.config.models.mapper is not None, "its recipe names it"
        return CueMapper.load(run.config.models.mapper)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return CueMapper.load(run.workspace.artifact("mapper", run.recipe("mapper")).fetch(Path(folder)))
        except FileNotFoundError as error:
            raise BadConfig("learn: the mapper is not learned yet: run `aai build`") from error


def start_of(run: Run, diffusion: "Diffusion", num_tokens: int) -> "Tensor":
    """The cue that a network starts at which knows nothing yet: the mean of the bank's labels, or of given words."""
    labels = run.workspace.table("clips").read(["label"], run.recipe("clips"))["label"]
    words = sorted({label for label in labels.to_pylist() if label}) or list(run.config.learn.start_words)
    return diffusion.word_embeddings(words).mean(0, keepdim=True).expand(num_tokens, -1).clone()


def _write(run: Run, folder: Path) -> int:
    """Have the mapper learned where the GPUs are, and write its files."""
    rows = _sample(run)
    pool = run.config.pool_of("learn")
    workers = open_pool(partial(Learner, run), "clip_id", pool)
    made = [done.outcome for finished in workers.map([rows], run.stop) for done in finished]
    if not made:
        raise BadConfig("learn: it was stopped before the mapper was learned: run `aai build` again")
    [outcome] = made
    if outcome.rows is None:
        raise BadConfig(f"learn: {outcome.rejects[0].sentence}")
    [files] = outcome.rows["files"].to_pylist()[:1]
    for name, data in zip(_FILES, files, strict=True):
        (folder / name).write_bytes(data)
    return rows.num_rows


def _sample(run: Run) -> pa.Table:
    """Clips to learn from, chosen by the run's seed among those that have neighbours."""
    source = JoinedSource(
        TableSource(run.workspace, "neighbours", run.recipe("neighbours"), ("clip_id", "image_ids")),
        (
            TableSource(run.workspace, "aligned_vectors", run.recipe("aligned_vectors"), ("clip_id", "vector")),
            TableSource(run.workspace, "clips", run.recipe("clips"), ("clip_id", "uri")),
        ),
    )
    seed = run.config.seed
    ids = sorted(source.ids().to_pylist(), key=lambda clip_id: seed_of(seed, "learn", clip_id, "sample"))
    if not ids:
        raise BadConfig("learn: no clip has neighbours to learn from: look into the table `rejects`")
    chosen = pa.chunked_array([pa.array(sorted(ids[: run.config.learn.num_clips]), pa.string())])
    return pa.concat_tables(source.rows(chosen)).sort_by("clip_id")


class Learner:
    """Learns the mapper from one slice, the whole sample."""

    def __init__(self, run: Run) -> None:
        from tasks.runtime.latents import Latents

        self.run, self.diffusion = run, open_diffusion(run.config)
        self.latents = Latents(run, self.diffusion)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Learn, and give the mapper's files with each clip that it learned from."""
        from aai.cues.train_mapper import learn_mapper

        rejects: list[Reject] = []
        options = self.run.config.learn
        clips = list(self.latents.clips(rows, rejects))
        if not clips:
            return Outcome(None, rejects)
        start = start_of(self.run, self.diffusion, options.num_tokens)
        mapper = learn_mapper(self.diffusion, clips, start, options, self.run.config.seed)
        with tempfile.TemporaryDirectory() as folder:
            mapper.cpu().save(folder)
            files = [(Path(folder) / name).read_bytes() for name in _FILES]
        ids = [clip.clip_id for clip in clips]
        made = pa.array([files] + [None] * (len(ids) - 1), pa.list_(pa.binary()))
        return Outcome(pa.table({"clip_id": ids, "files": made}), rejects)
