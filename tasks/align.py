"""Align: audio vectors become vectors in the space of the index."""

import numpy as np
import pyarrow as pa

from aai.align.captions import everyday_sounds, weights_of
from aai.align.options import AlignOptions
from aai.errors import BadConfig, BadItem
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.config import Config
from tasks.runtime.models import in_role, open_audio, open_image_text
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Outcome, Worker


class JointAligner:
    """Nothing to do: the model that hears a clip sees the images, too, so its vectors are in their space."""

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        return Outcome(rows.select(SCHEMAS["aligned_vectors"].columns.names).cast(SCHEMAS["aligned_vectors"].columns))


class TrainedAligner:
    """A trained projector, loaded once per worker."""

    def __init__(self, context: Context) -> None:
        from aai.align.projector import Projector
        from aai.models.device import best_device

        aligner = context.config.models.aligner
        assert aligner is not None, "the recipe names it"
        self.device = best_device()
        with in_role("aligner"):
            self.projector = Projector.load(aligner).to(self.device)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        import torch

        with torch.inference_mode():
            vectors = torch.from_numpy(to_array(rows["vector"])).to(self.device)
            return _outcome(rows, self.projector(vectors).cpu().numpy())


class CaptionAligner:
    """No training: the audio encoder scores captions, and their weighted image-space embeddings are the vector.

    Source: the semantic aggregation of Wang et al. 2023, "Connecting Multi-modal Contrastive Representations", section
    3.2, with captions as the only memory.

    Raises:
        BadConfig: a caption is longer than an encoder's context.
    """

    def __init__(self, context: Context) -> None:
        options = context.options(AlignOptions)
        names = options.labels or everyday_sounds()
        audio_captions = [options.audio_prompt.replace("*", name) for name in names]
        image_captions = [options.image_prompt.replace("*", name) for name in names]
        self.options = options
        try:
            self.audio_side = open_audio(context.config).embed_texts(audio_captions).numpy()
            self.image_side = open_image_text(context.config).embed_texts(image_captions).numpy()
        except BadItem as error:
            raise BadConfig(error.sentence, key="align.labels") from error

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        scores = to_array(rows["vector"]) @ self.audio_side.T
        return _outcome(rows, blend(scores, self.image_side, self.options.temperature, self.options.num_labels))


def blend(scores: np.ndarray, vectors: np.ndarray, temperature: float, num: int) -> np.ndarray:
    """The captions' vectors weighted by the softmax of the `num` best scores, as unit vectors."""
    blended = weights_of(scores, temperature, num) @ vectors
    unit: np.ndarray = blended / np.linalg.norm(blended, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _outcome(rows: pa.Table, vectors: np.ndarray) -> Outcome:
    columns = SCHEMAS["aligned_vectors"].columns
    return Outcome(pa.table([rows["clip_id"], to_lists(vectors)], schema=columns))


def _aligner(context: Context) -> Worker:
    match context.options(AlignOptions).method:
        case "joint":
            return JointAligner()
        case "trained":
            return TrainedAligner(context)
        case "labels":
            return CaptionAligner(context)


def _models(config: Config) -> tuple[str, ...]:
    """The roles of the models by method; with a joint encoder its vectors are taken as they are."""
    return {"joint": (), "trained": ("aligner",), "labels": ("audio", "image_text")}[
        config.options(AlignOptions).method
    ]


def _settings(config: Config) -> dict[str, object]:
    options = config.options(AlignOptions)
    if options.method != "labels":
        return {"method": options.method}
    return options.settings() | {"labels": list(options.labels or everyday_sounds())}


ALIGNED_VECTORS = Stage(
    name="align",
    table="aligned_vectors",
    reads=("audio_vectors",),
    rows="SELECT v.clip_id, v.vector FROM audio_vectors v SEMI JOIN present_audio_ids p ON v.clip_id = p.id",
    options=AlignOptions,
    settings=_settings,
    models=_models,
    worker=_aligner,
    gpu=True,
)
