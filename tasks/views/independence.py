"""Which metrics are measured by the encoder that retrieved the images."""

from aai.metrics import METRICS
from tasks.runtime.models import image_role
from tasks.runtime.run import Run


def dependent_metrics(run: Run) -> frozenset[str]:
    """The metrics whose model is the one that retrieved the images: they measure its agreement with itself."""
    seen = image_role(run.config)
    hears = "audio_judge" if run.config.models.audio_judge else seen
    asks = {"image_text": "image_text", "images": seen, "sounds": hears}
    # By the revision, which of a folder is a digest: copies of a model are one model.
    roles = {asked for asked, role in asks.items() if run.revision(role)[1] == run.revision(seen)[1]}
    return frozenset(name for name, metric in METRICS.items() if metric.role in roles)


def scored_dependently(run: Run) -> frozenset[str]:
    """The same of the table `scores`, whose audio-image similarity is always by the encoder of the index."""
    return dependent_metrics(run) | {name for name, metric in METRICS.items() if metric.role == "sounds"}
