"""audio/ and images/ -> a cue bank."""

from aai.errors import BadConfig
from tasks.align import align
from tasks.embed import embed_audio, embed_images
from tasks.fit import fit
from tasks.index import build as index
from tasks.ingest import ingest_audio, ingest_images
from tasks.retrieve import retrieve_images
from tasks.run import Run
from tasks.stage import StageSummary

STAGES = (
    ingest_images,
    ingest_audio,
    embed_images,
    embed_audio,
    index,
    align,
    retrieve_images,
    fit,
)
"""In order; each reads the tables of those before it."""


def build(run: Run) -> list[StageSummary]:
    """Do all that is not done yet; a second call does nothing.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store failed, or a slice failed too often.
    """
    for key in ("audio", "images"):
        if not getattr(run.config, key):
            raise BadConfig(f"{key}: no place is named: name folders, globs or tars")
    done = []
    for stage in STAGES:
        done.append(stage(run))
        if done[-1].stopped:
            break
    return done
