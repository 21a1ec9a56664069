"""The report: a single HTML page with each clip's audio, neighbours, cue, rendered images and scores."""

from aai.report.contents import (
    Card,
    Cue,
    Curve,
    JobPictures,
    Neighbour,
    Origin,
    Picture,
    RejectKind,
    Report,
    ScoreLine,
    Sound,
    StageTime,
    Thumb,
)
from aai.report.page import page

__all__ = [
    "Card",
    "Cue",
    "Curve",
    "JobPictures",
    "Neighbour",
    "Origin",
    "Picture",
    "RejectKind",
    "Report",
    "ScoreLine",
    "Sound",
    "StageTime",
    "Thumb",
    "page",
]
