"""The report: one HTML page in which every clip is heard and seen, with all that became of it."""

from aai.report.contents import (
    Card,
    Cue,
    Curve,
    Made,
    Neighbour,
    Picture,
    RejectKind,
    Report,
    ScoreLine,
    Shown,
    Sound,
    StageTime,
    Thumb,
)
from aai.report.page import page

__all__ = [
    "Card",
    "Cue",
    "Curve",
    "Made",
    "Neighbour",
    "Picture",
    "RejectKind",
    "Report",
    "ScoreLine",
    "Shown",
    "Sound",
    "StageTime",
    "Thumb",
    "page",
]
