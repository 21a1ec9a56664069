"""What enters the last blocks of the audio encoder, for each clip: computed once, because all before them is frozen.

It is as large as the clip's spectrogram (100 to 200 kB for CLAP), and saves decoding, spectrogram and most blocks in
every pass of the training. It goes to a file that is mapped into memory, in half precision.

inputs.npy     a row per sound of the pairs; zero for those that no pair uses
inputs.json    what the rows were made from, and how many are done
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.lib.format import open_memmap

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION, PairVectors
from aai.errors import BadConfig, BadItem
from aai.format import without_secrets
from aai.identity import content_id
from aai.media.options import IngestOptions
from aai.workspace.store import write_whole
from tasks.embed import ClipReader, EmbedOptions
from tasks.runtime.loader import Loader, Row
from tasks.runtime.run import Run

if TYPE_CHECKING:
    from aai.models.clap_blocks import SplitEncoder

INPUTS = "inputs.npy"
_MARK = "inputs.json"
_CLIPS = """
    SELECT w.number, c.clip_id, c.content_id, c.uri, c."offset", c.num_bytes, c.start_s, c.duration_s
    FROM present_clips c JOIN wanted w ON c.clip_id = w.clip_id ORDER BY c.content_id, c.start_s
"""
_SAVE_S = 30.0


@dataclass(frozen=True)
class _Made:
    """What rows are made from, and how many are done, in the order of the recordings."""

    digest: str
    done: int = 0

    @classmethod
    def read(cls, folder: Path) -> "_Made | None":
        try:
            return cls(**json.loads((folder / _MARK).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        write_whole(folder / _MARK, json.dumps(vars(self)).encode())


@dataclass
class _File:
    """The array at work."""

    array: np.ndarray
    folder: Path
    made: _Made
    saved_s: float = field(default_factory=time.monotonic)

    def write(self, numbers: list[int], rows: np.ndarray) -> None:
        """Write some rows, and now and then how many are done."""
        if not np.isfinite(rows).all():
            raise BadConfig("what enters the blocks exceeds half precision: set it to 0", key="train.tower_blocks")
        self.array[numbers] = rows
        self.made = replace(self.made, done=self.made.done + len(rows))
        if time.monotonic() - self.saved_s > _SAVE_S:
            self.save()

    def save(self) -> None:
        """Mark rows as done that are on disk."""
        self.array.flush()  # type: ignore[attr-defined]  # of a memory map
        self.made.write(self.folder)
        self.saved_s = time.monotonic()


def write_inputs(run: Run, ids: pa.ChunkedArray, vectors: PairVectors, into: tuple[Path, int], stop: Event) -> bool:
    """Write what enters the last blocks, unless it is there; whether it is complete, and was not stopped.

    A killed run goes on where it was.

    Args:
        run: the workspace with the clips.
        ids: the clip of each pair.
        vectors: the pairs; those that are left out need no inputs.
        into: the folder to write to, and the number of blocks.
        stop: ends the work once it is set.

    Raises:
        BadConfig: the encoder has fewer blocks, the disk is too small, or a clip can no longer be read.
        Transient: the store failed.
    """
    folder, num_blocks = into
    wanted = _wanted(ids, vectors)
    settings = f"{run.recipe('audio_vectors')} {num_blocks} {len(vectors)}"
    digest = content_id(f"{settings} {wanted['clip_id'].to_pylist()}".encode())
    made = _Made.read(folder)
    if made and made.digest == digest and made.done == len(wanted):
        return True
    encoder = open_split(run, num_blocks)
    encoder.encoder.tokenizer  # noqa: B018 - the result needs it, and it may be missing
    shape = int(vectors.sounds.max()) + 1, *encoder.blocks.input_shape
    array, made = _opened(folder, shape, made if made and made.digest == digest else _Made(digest))
    return _filled(run, encoder, wanted, _File(array, folder, made), stop)


def open_split(run: Run, num_blocks: int) -> "SplitEncoder":
    """The bank's audio encoder, whose last blocks can be trained.

    Raises:
        BadConfig: it cannot be loaded, or has fewer blocks.
    """
    from aai.models.clap_blocks import SplitEncoder
    from aai.models.device import best_device
    from tasks.runtime.models import in_role

    model = run.config.models.audio
    with in_role("audio"):
        return SplitEncoder(model.name, model.revision, num_blocks, best_device())


def _wanted(ids: pa.ChunkedArray, vectors: PairVectors) -> pa.Table:
    """The clips that pairs use, and their numbers."""
    used = np.flatnonzero(np.isin(vectors.parts, (TRAIN, VALIDATION, HELD_OUT)))
    numbers, first = np.unique(vectors.sounds[used], return_index=True)
    return pa.table({"number": numbers, "clip_id": ids.take(used[first])})


def _opened(folder: Path, shape: tuple[int, ...], made: _Made) -> tuple[np.ndarray, _Made]:
    """The file's array, and what is done of it."""
    path = folder / INPUTS
    if made.done and path.exists():
        return open_memmap(path, "r+"), made
    path.unlink(missing_ok=True)
    needed, free = 2 * math.prod(shape), shutil.disk_usage(folder).free
    if needed > free:
        sentence = f"what enters the blocks takes {needed / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB left"
        raise BadConfig(f"{sentence}: name a folder on a larger disk", key="output", uri=str(folder))
    return open_memmap(path, "w+", np.float16, shape), replace(made, done=0)


def _filled(run: Run, encoder: "SplitEncoder", wanted: pa.Table, file: _File, stop: Event) -> bool:
    """Write the rows that are missing; whether all are there."""
    import torch

    with run.query(extra={"wanted": wanted}) as query:
        clips = query.table(_CLIPS)
    if len(clips) < len(wanted):
        raise BadConfig(f"{len(wanted) - len(clips):,} clips are gone: run the command again", key="pairs")
    reader = ClipReader(encoder.encoder.prepare, run.config.options(IngestOptions).audio)
    loader, size = Loader(reader, _refuse), run.config.options(EmbedOptions).batch_size
    watch, start_s, first = run.watch("audio blocks") if run.watch else None, time.monotonic(), file.made.done
    with closing(loader.batches(_from(clips, first), size)) as batches:
        for batch in batches:
            waves = torch.from_numpy(np.stack([wave for _, wave in batch]))
            file.write([row["number"] for row, _ in batch], encoder.inputs_of(waves).half().cpu().numpy())
            if watch:
                watch(file.made.done, len(clips), (file.made.done - first) / max(time.monotonic() - start_s, 1e-9))
            if stop.is_set():
                break
    file.save()
    return file.made.done == len(clips)


def _from(clips: pa.Table, done: int) -> Iterator[Row]:
    for batch in clips.slice(done).to_batches(1024):
        yield from batch.to_pylist()


def _refuse(row: Row, error: BadItem) -> None:
    sentence = f"a clip can no longer be read ({error.sentence}): restore the file, or remove it and run again"
    raise BadConfig(sentence, key="pairs", uri=without_secrets(row["uri"])) from error
