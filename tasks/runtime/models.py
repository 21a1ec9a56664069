"""The models of a configuration, loaded by the workers that need them."""

from typing import TYPE_CHECKING

from aai.models.device import best_device, dtype_on
from tasks.runtime.config import Config

if TYPE_CHECKING:
    from aai.models.diffusion import Diffusion


def open_diffusion(config: Config) -> "Diffusion":
    """The text-to-image model, on the GPU if this process may use one.

    Raises:
        BadConfig: it cannot be loaded.
    """
    from aai.models.diffusion import load_diffusion  # seconds: planners import this module's users

    device, model = best_device(), config.models.diffusion
    return load_diffusion(model.name, device, model.revision, dtype_on(device, config.models.dtype))
