"""The models of a configuration, loaded by the workers that need them."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aai.cues.options import TrainMapperOptions
from aai.errors import BadConfig
from tasks.runtime.config import Config
from tasks.runtime.stage import Context

if TYPE_CHECKING:
    from torch import Tensor

    from aai.cues.mapper import CueMapper
    from aai.models.diffusion import Diffusion


def open_diffusion(config: Config) -> "Diffusion":
    """The text-to-image model, on the GPU if this process may use one.

    Raises:
        BadConfig: it cannot be loaded.
    """
    from aai.models.device import best_device, dtype_named  # torch takes seconds; planning imports this module
    from aai.models.diffusion import load_diffusion

    device, model = best_device(), config.models.diffusion
    return load_diffusion(model.name, device, model.revision, dtype_named(config.models.dtype))


def open_mapper(context: Context) -> "CueMapper":
    """The shipped mapper, or the one that was trained on the bank.

    Raises:
        BadConfig: there is none.
    """
    from aai.cues.mapper import CueMapper

    if context.options(TrainMapperOptions).method == "shipped":
        assert context.config.models.mapper is not None, "the recipe names it"
        return CueMapper.load(context.config.models.mapper)
    artifact = context.workspace.artifact("mapper", context.recipes["mapper"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            return CueMapper.load(artifact.fetch(Path(folder)))
        except FileNotFoundError as error:
            raise BadConfig("the mapper is not trained yet: run `aai build`", key="train_mapper") from error


def initial_cue(context: Context, diffusion: "Diffusion", num_tokens: int) -> "Tensor":
    """The cue before any training: the mean embedding of the configured words, num_tokens x dim."""
    words = context.options(TrainMapperOptions).start_words
    return diffusion.word_embeddings(words).mean(0, keepdim=True).expand(num_tokens, -1).clone()
