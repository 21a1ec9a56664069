"""Cues from captions alone: the audio encoder scores them, and the token embeddings of their names are averaged."""

from typing import TYPE_CHECKING

import numpy as np

from aai.align.captions import everyday_sounds, weights_of
from aai.align.options import AlignOptions
from aai.errors import BadConfig, BadItem
from tasks.runtime.config import Config
from tasks.runtime.models import open_diffusion, open_sounds

if TYPE_CHECKING:
    from torch import Tensor


def caption_settings(config: Config) -> dict[str, object]:
    """What of the configuration such cues depend on."""
    options = config.options(AlignOptions)
    names = ("audio_prompt", "temperature", "num_labels")
    return {name: getattr(options, name) for name in names} | {"labels": list(options.labels or everyday_sounds())}


class CaptionCues:
    """The captions of the section `align`: their vectors, and the token embeddings of their names.

    Raises:
        BadConfig: a model cannot be loaded, or a caption is longer than the audio encoder's context.
    """

    def __init__(self, config: Config) -> None:
        self.options = config.options(AlignOptions)
        names = self.options.labels or everyday_sounds()
        try:
            sounds = [self.options.audio_prompt.replace("*", name) for name in names]
            self.heard = open_sounds(config).embed_texts(sounds).numpy()
            self.tokens = open_diffusion(config).word_embeddings(names).float().cpu()
        except BadItem as error:
            raise BadConfig(error.sentence, key="align.labels") from error

    def __call__(self, vectors: np.ndarray) -> "Tensor":
        """The cues of audio vectors, clips x 1 x dim; as long as the names' embeddings, while a mean is shorter."""
        import torch  # plans do not need it

        scores = vectors @ self.heard.T
        weights = torch.from_numpy(weights_of(scores, self.options.temperature, self.options.num_labels))
        mean = weights @ self.tokens
        length = weights @ self.tokens.norm(dim=1, keepdim=True)
        return (mean * length / mean.norm(dim=1, keepdim=True).clamp(min=1e-6))[:, None]
