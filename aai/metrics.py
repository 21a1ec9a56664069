"""What is measured of pictures, and what a set of such figures comes to.

Vectors are unit vectors of one image-text encoder: of pictures, of captions, and of clips that were brought into its
space. A figure that does not exist, as the rank of a clip without others, is NaN.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

_CLIP_SCORE_SCALE = 2.5  # Hessel et al. 2021, section 3: brings what CLIP ViT-B/32 says of captions to 0 to 1
_LEAST_FOR_RANKS = 3  # of two, the correlation of ranks is always 1, 0 or -1

CLIP_SCORE, AIS_COSINE, AIS_RANK = "clip_score", "ais_cosine", "ais_rank"
JUDGE_PHENOMENON, JUDGE_INTENSITY, JUDGE_BACKGROUND = "judge_phenomenon", "judge_intensity", "judge_background"

MEANINGS = {
    CLIP_SCORE: "CLIPScore: picture against prompt, the label in place of the sound; 0 to 2.5, higher is better",
    AIS_COSINE: "AIS-cos: cosine of picture and clip; -1 to 1, higher is better",
    AIS_RANK: "AIS-rank: share of other clips that suit the picture less than its own; chance 0.5, best 1",
    JUDGE_PHENOMENON: "whether the judge sees what the clip's label says; as a mean, the accuracy",
    JUDGE_INTENSITY: "how strong the judge finds it, 0 to 1; to be compared with the clip's, not to be high",
    JUDGE_BACKGROUND: "whether the judge sees the background that the prompt names; as a mean, the accuracy",
}
"""Every metric of the table `scores`, and what it says."""

YES_OR_NO = (JUDGE_PHENOMENON, JUDGE_BACKGROUND)
"""The metrics that are 1 or 0."""

SHORT = {
    CLIP_SCORE: "CLIPScore",
    AIS_COSINE: "AIS-cos",
    AIS_RANK: "AIS-rank",
    JUDGE_PHENOMENON: "phenomenon",
    JUDGE_INTENSITY: "strength",
    JUDGE_BACKGROUND: "background",
}
"""What they are called where there is little room."""


def clip_score(
    pictures: Float[np.ndarray, "pictures dim"], captions: Float[np.ndarray, "pictures dim"]
) -> Float[np.ndarray, " pictures"]:
    """How well each picture is described by its caption, from 0 to 2.5.

    Captions are taken as they are; the paper puts "A photo depicts" before them, which prompts do by themselves.

    Source: Hessel et al. 2021, "CLIPScore", section 3: w * max(cos, 0) with w = 2.5.
    """
    return _CLIP_SCORE_SCALE * np.maximum(_cosines(pictures, captions), 0)


def ais_cosine(
    pictures: Float[np.ndarray, "pictures dim"], clips: Float[np.ndarray, "pictures dim"]
) -> Float[np.ndarray, " pictures"]:
    """Audio-image similarity in its cosine form: of each picture and its own clip, from -1 to 1.

    Other encoders give other scales, so only figures of one pair of encoders can be compared.

    Source: the cosine form of AIS in MACS (arXiv 2503.10287); there, too, a plain cosine.
    """
    return _cosines(pictures, clips)


def ais_rank(
    pictures: Float[np.ndarray, "pictures dim"],
    clips: Float[np.ndarray, "pictures dim"],
    others: Float[np.ndarray, "others dim"],
    is_own: Bool[np.ndarray, "pictures others"],
) -> Float[np.ndarray, " pictures"]:
    """Audio-image similarity in its rank form: the share of other clips less similar to the picture than its own is.

    1 is best, 0.5 is chance; a tie counts as not less. Clips of the same label are among the others, so that 1 is
    reached by a picture that shows this very clip. `is_own` says which of the others are no others.

    Source: the mean over pictures is AIS as SonicDiffusion (arXiv 2405.00878) computes it, 1/(N|R|) sum of
    [<g_i, r> < <g_i, c_i>]; here the pool R leaves out the own clip, which could never be counted.
    """
    own = _cosines(pictures, clips)
    is_less = (pictures @ others.T < own[:, None]) & ~is_own
    num = (~is_own).sum(axis=1)
    return np.where(num > 0, is_less.sum(axis=1) / np.maximum(num, 1), np.nan)


def rank_correlation(truth: Float[np.ndarray, " items"], found: Float[np.ndarray, " items"]) -> float:
    """Spearman's correlation of ranks, ties sharing their mean rank.

    NaN where fewer than three are given or the truth does not vary; 0 where what was found does not vary.
    """
    if len(truth) < _LEAST_FOR_RANKS or np.ptp(truth) == 0:
        return math.nan
    if np.ptp(found) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(truth), rankdata(found))[0, 1])


def correlation_within(
    groups: Sequence[str], truth: Float[np.ndarray, " items"], found: Float[np.ndarray, " items"]
) -> float:
    """Spearman's correlation inside each group, averaged over those groups that have one; NaN where none has."""
    names = np.asarray(groups, object)
    each = [rank_correlation(truth[names == name], found[names == name]) for name in dict.fromkeys(groups)]
    known = [value for value in each if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Aggregate:
    """What the scores of some pictures come to."""

    num: int
    """Pictures with scores."""

    means: dict[str, float]
    """Per metric that any of them has, its mean over those that have it."""

    intensity: float | None
    """Spearman's correlation of the clips' intensity with the judged one, within groups; none where it is unknown."""


def aggregate(
    metrics: Mapping[str, Float[np.ndarray, " pictures"]],
    groups: Sequence[str | None],
    intensities: Float[np.ndarray, " pictures"],
) -> Aggregate:
    """Means and correlation of a set of pictures; NaN stands for a metric that one lacks, or an unknown intensity.

    Intensities are compared within groups, as clips of one label in one job; who has no group is not compared.
    """
    means = {name: float(np.nanmean(values)) for name, values in metrics.items() if not np.isnan(values).all()}
    num = int(np.any([~np.isnan(values) for values in metrics.values()], axis=0).sum()) if metrics else 0
    correlation = math.nan
    if JUDGE_INTENSITY in metrics:
        judged = metrics[JUDGE_INTENSITY]
        known = ~np.isnan(judged) & ~np.isnan(intensities) & [group is not None for group in groups]
        named = [group or "" for group, is_known in zip(groups, known, strict=True) if is_known]
        correlation = correlation_within(named, intensities[known], judged[known])
    return Aggregate(num, means, None if math.isnan(correlation) else correlation)


def _cosines(
    some: Float[np.ndarray, "items dim"], others: Float[np.ndarray, "items dim"]
) -> Float[np.ndarray, " items"]:
    return np.einsum("id,id->i", some, others)
