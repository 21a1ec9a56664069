"""The training prompts of images, as their encoder sees them."""

from functools import cache

import numpy as np
from jaxtyping import Float, Float32

from aai.align.captions import everyday_sounds
from aai.align.options import AlignOptions
from aai.cues.image_prompts import (
    balanced,
    captions_of,
    chances_of,
    everyday_places,
    likeliest,
    template_numbers,
    with_places,
)
from aai.cues.options import PLACE, TrainMapperOptions
from aai.errors import BadConfig, BadItem
from tasks.runtime.config import Config
from tasks.runtime.models import open_images


def names_places(config: Config) -> bool:
    """Whether the templates name places, so that prompts depend on what an image shows."""
    return any(PLACE in template for template in config.options(TrainMapperOptions).templates)


def prompts_of(config: Config) -> tuple[str, ...]:
    """The training prompts of the mapper, with places in them."""
    options = config.options(TrainMapperOptions)
    return with_places(options.templates, options.places or everyday_places())


def prompt_settings(config: Config) -> dict[str, object]:
    """What of the configuration prompts depend on."""
    align = config.options(AlignOptions)
    sounds = list(align.labels or everyday_sounds())
    return {"prompts": list(prompts_of(config)), "sounds": sounds, "image_prompt": align.image_prompt}


class ImagePrompts:
    """How often images are trained under each prompt: as likely as it is for the image, and all templates as often.

    The sound that stands for the cue is the one of `align.labels` that the image itself shows most likely.

    Raises:
        BadConfig: the image encoder cannot be loaded, or a caption is longer than its context.
    """

    def __init__(self, config: Config) -> None:
        self.prompts, self.encoder = prompts_of(config), open_images(config)
        training = config.options(TrainMapperOptions)
        self.templates = template_numbers(training.templates, len(training.places or everyday_places()))
        options = config.options(AlignOptions)
        self.sounds = options.labels or everyday_sounds()
        self.heard = self._embed([options.image_prompt.replace("*", sound) for sound in self.sounds], "align.labels")
        self._captions = cache(self._captions_of)

    def __call__(self, images: Float32[np.ndarray, "images dim"]) -> Float[np.ndarray, "images prompts"]:
        """The weight of each prompt for each image of the training."""
        shown = likeliest(images, self.heard)
        scores = np.empty((len(images), len(self.prompts)), np.float32)
        for number in np.unique(shown):
            own = shown == number
            scores[own] = images[own] @ self._captions(int(number)).T
        return balanced(chances_of(scores), self.templates)

    def _captions_of(self, number: int) -> Float32[np.ndarray, "prompts dim"]:
        return self._embed(captions_of(self.prompts, self.sounds[number]), "train_mapper.templates")

    def _embed(self, texts: list[str], key: str) -> Float32[np.ndarray, "texts dim"]:
        try:
            return self.encoder.embed_texts(texts).numpy()
        except BadItem as error:
            raise BadConfig(error.sentence, key=key) from error
