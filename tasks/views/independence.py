"""Which metrics are measured by the encoder that retrieved the images."""

from aai.metrics import METRICS
from aai.profiles import ModelName
from tasks.runtime.models import image_role
from tasks.runtime.run import Run


def dependent_metrics(run: Run) -> frozenset[str]:
    """The metrics whose model is the one that retrieved the images: they measure its agreement with itself."""
    models, seen = run.config.models, image_role(run.config)
    retrieved = _name(getattr(models, seen))
    asks = {"image_text": models.image_text, "images": getattr(models, seen), "sounds": models.audio_judge}
    roles = {role for role, model in asks.items() if model is None or _name(model) == retrieved}
    return frozenset(name for name, metric in METRICS.items() if metric.role in roles)


def _name(model: ModelName) -> tuple[str, str | None]:
    return model.name, model.revision


def scored_dependently(run: Run) -> frozenset[str]:
    """The same of the table `scores`, whose audio-image similarity is always by the encoder of the index."""
    return dependent_metrics(run) | {name for name, metric in METRICS.items() if metric.role == "sounds"}
