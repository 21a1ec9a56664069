"""Align: clips' vectors come into the image encoder's space."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from aai.align.captions import everyday_sounds
from aai.models.device import best_device
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.tables import TableSource
from tasks.runtime.work import Outcome, Worker


def align(run: Run) -> StageSummary:
    """Align every clip's vector that is not aligned under this recipe."""
    source = TableSource(run.workspace, "audio_vectors", run.recipe("audio_vectors"), ("clip_id", "vector"))
    makers: dict[str, Callable[[Config], Worker]] = {"trained": TrainedAligner, "labels": LabelAligner}
    return run.drive("aligned_vectors", source, partial(makers[run.config.align.method], run.config))


class TrainedAligner:
    """A trained projector, loaded once per worker."""

    def __init__(self, config: Config) -> None:
        from aai.align.projector import Projector

        assert config.models.aligner is not None, "its recipe names it"
        self.device = best_device()
        self.projector = Projector.load(config.models.aligner).to(self.device)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        import torch

        with torch.inference_mode():
            heard = torch.from_numpy(to_array(rows["vector"])).to(self.device)
            return _outcome(rows, self.projector(heard).cpu().numpy())


class LabelAligner:
    """No training: the audio encoder weighs captions, whose image-space embeddings make the vector.

    Source: the semantic aggregation of Wang et al. 2023, "Connecting Multi-modal Contrastive Representations", section
    3.2, with captions as the only memory.
    """

    def __init__(self, config: Config) -> None:
        from aai.models.clap import AudioEncoder
        from aai.models.clip import ImageTextEncoder

        device, models, options = best_device(), config.models, config.align
        names = options.labels or everyday_sounds()
        heard = [options.audio_prompt.replace("*", name) for name in names]
        seen = [options.image_prompt.replace("*", name) for name in names]
        self.options = options
        self.heard = AudioEncoder(models.audio.name, models.audio.revision, device).embed_texts(heard).numpy()
        encoder = ImageTextEncoder(models.image_text.name, models.image_text.revision, device)
        self.seen = encoder.embed_texts(seen).numpy()

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        scores = to_array(rows["vector"]) @ self.heard.T
        return _outcome(rows, blend(scores, self.seen, self.options.temperature, self.options.num_labels))


def blend(scores: np.ndarray, seen: np.ndarray, temperature: float, num: int) -> np.ndarray:
    """Unit vectors: the captions' image-space embeddings, weighted by the softmax of the `num` best scores."""
    num = min(num, scores.shape[1])
    least = np.partition(scores, -num, axis=1)[:, -num, None]
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature) * (scores >= least)
    blended = (weights / weights.sum(axis=1, keepdims=True)) @ seen
    unit: np.ndarray = blended / np.linalg.norm(blended, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _outcome(rows: pa.Table, vectors: np.ndarray) -> Outcome:
    columns = SCHEMAS["aligned_vectors"].columns
    return Outcome(pa.table([rows["clip_id"], to_lists(vectors)], schema=columns))
