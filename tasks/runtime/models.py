"""The models of a configuration, loaded by the workers that need them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aai.align.options import AlignOptions
from aai.cues.options import TrainMapperOptions
from aai.errors import BadConfig, BadItem
from tasks.runtime.config import Config
from tasks.runtime.loaded import loaded_once
from tasks.runtime.stage import Context

if TYPE_CHECKING:
    from torch import Tensor

    from aai.cues.mapper import CueMapper
    from aai.models.clap import AudioEncoder
    from aai.models.clip import ImageTextEncoder
    from aai.models.diffusion import Diffusion
    from aai.models.image_reward import ImageReward
    from aai.models.joint import ImageEncoder, JointEncoder, SoundEncoder


@contextmanager
def in_role(role: str) -> Iterator[None]:
    """Name the role of a model that cannot be loaded.

    Raises:
        BadConfig: it cannot be loaded.
    """
    try:
        yield
    except BadConfig as error:
        raise BadConfig(error.sentence, key=error.key or f"models.{role}", uri=error.uri) from error


def open_diffusion(config: Config) -> "Diffusion":
    """The text-to-image model, on the GPU if this process may use one.

    Raises:
        BadConfig: it cannot be loaded.
    """
    from aai.models.device import best_device, dtype_named  # torch takes seconds; planning imports this module
    from aai.models.diffusion import load_diffusion

    device, model, dtype = best_device(), config.models.diffusion, dtype_named(config.models.dtype)
    with in_role("diffusion"):
        diffusion = loaded_once(
            ("diffusion", model, device, dtype), lambda: load_diffusion(model.name, device, model.revision, dtype)
        )
    diffusion.speed.compile = diffusion.codec.speed.compile = config.models.compile
    return diffusion


def open_audio(config: Config) -> "AudioEncoder":
    """The audio encoder, on the GPU if this process may use one.

    Raises:
        BadConfig: it cannot be loaded.
    """
    from aai.models.clap import AudioEncoder
    from aai.models.device import best_device, dtype_named

    model, device, dtype = config.models.audio, best_device(), dtype_named(config.models.dtype)
    with in_role("audio"):
        return loaded_once(
            ("audio", model, device, dtype), lambda: AudioEncoder(model.name, model.revision, device, dtype)
        )


def open_image_text(config: Config) -> "ImageTextEncoder":
    """The image-text encoder, on the GPU if this process may use one.

    Raises:
        BadConfig: it cannot be loaded.
    """
    from aai.models.clip import ImageTextEncoder
    from aai.models.device import best_device, dtype_named

    model, device, dtype = config.models.image_text, best_device(), dtype_named(config.models.dtype)
    with in_role("image_text"):
        return loaded_once(
            ("image_text", model, device, dtype), lambda: ImageTextEncoder(model.name, model.revision, device, dtype)
        )


def open_joint(config: Config, role: str = "joint") -> "JointEncoder":
    """The joint encoder, or that of another role, on the GPU if this process may use one.

    Raises:
        BadConfig: none is named, or it cannot be loaded.
    """
    from aai.models.device import best_device, dtype_named
    from aai.models.joint import load_joint

    model, device, dtype = getattr(config.models, role), best_device(), dtype_named(config.models.dtype)
    assert model is not None, "the recipe names it"
    with in_role(role):
        return loaded_once((role, model, device, dtype), lambda: load_joint(model.name, model.revision, device, dtype))


def open_image_reward(config: Config) -> "ImageReward | None":
    """ImageReward, on the GPU if this process may use one; none if the configuration names no folder.

    Raises:
        BadConfig: it cannot be loaded.
    """
    if (folder := config.models.image_reward) is None:
        return None
    from aai.models.device import best_device
    from aai.models.image_reward import ImageReward

    device = best_device()
    return loaded_once(("image_reward", folder, device), lambda: ImageReward(folder, device))


def sound_role(config: Config) -> str:
    """The role of the model that hears: the joint encoder, or the audio encoder."""
    return "joint" if config.options(AlignOptions).method == "joint" else "audio"


def image_role(config: Config) -> str:
    """The role of the model in whose space the index is: the joint encoder, or the image-text encoder."""
    return "joint" if config.options(AlignOptions).method == "joint" else "image_text"


def open_sounds(config: Config) -> "SoundEncoder":
    """The model that hears clips.

    Raises:
        BadConfig: it cannot be loaded.
    """
    return open_joint(config).sounds if sound_role(config) == "joint" else open_audio(config)


def open_images(config: Config) -> "ImageEncoder":
    """The model that sees the images of the collection.

    Raises:
        BadConfig: it cannot be loaded.
    """
    return open_joint(config).images if image_role(config) == "joint" else open_image_text(config)


def open_mapper(context: Context) -> "CueMapper":
    """The shipped mapper, or the one that was trained on the bank.

    Raises:
        BadConfig: there is none, or it is damaged.
    """
    from aai.cues.mapper import CueMapper

    if context.options(TrainMapperOptions).method == "shipped":
        assert context.config.models.mapper is not None, "the recipe names it"
        with in_role("mapper"):
            return CueMapper.load(context.config.models.mapper)
    artifact = context.workspace.artifact("mapper", context.recipes["mapper"])
    if not artifact.exists():
        raise BadConfig("the mapper is not trained yet: run `aai build`", key="train_mapper")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return CueMapper.load(artifact.fetch(Path(folder)))
        except (FileNotFoundError, BadConfig) as error:
            sentence = "the trained mapper is damaged: delete its folder, and `aai build` trains it again"
            raise BadConfig(sentence, key="train_mapper", uri=artifact.uri) from error


def check_templates(diffusion: "Diffusion", templates: Sequence[str], num_tokens: int, key: str) -> None:
    """Check the templates of the denoising loss.

    Raises:
        BadConfig: one is longer than the text encoder's context, or has two cues.
    """
    try:
        diffusion.check_prompts(templates, num_tokens)
    except BadItem as error:
        raise BadConfig(error.sentence, key=key) from error


def initial_cue(context: Context, diffusion: "Diffusion", num_tokens: int) -> "Tensor":
    """The cue before any training: the mean embedding of the configured words, num_tokens x dim, in float32."""
    words = context.options(TrainMapperOptions).start_words
    return diffusion.word_embeddings(words).mean(0, keepdim=True).float().expand(num_tokens, -1).clone()
