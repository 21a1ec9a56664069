"""Image metrics (CLIPScore, audio-image similarity) and their aggregation.

Embeddings are unit vectors of one image-text encoder: of images, of captions, and of clips after alignment. NaN stands
for an undefined value, as the rank of a clip among no others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_CLIP_SCORE_SCALE = 2.5  # Hessel et al. 2021, section 3: stretches typical cosines of CLIP ViT-B/32 to 0 to 1
_MIN_FOR_RANKS = 3  # the rank correlation of two items is always 1, 0 or -1

CLIP_SCORE, AIS_COSINE, AIS_RANK = "clip_score", "ais_cosine", "ais_rank"
JUDGE_PHENOMENON, JUDGE_INTENSITY, JUDGE_BACKGROUND = "judge_phenomenon", "judge_intensity", "judge_background"
JUDGE_TONE = "judge_tone"


@dataclass(frozen=True)
class Metric:
    """Description of a metric in the table `scores`."""

    name: str
    """As stored in the column `metric`."""

    label: str
    """Short name, for column headers."""

    help: str
    """One line: what it measures, its range, and which direction is better."""

    is_share: bool = False
    """Whether values are 0 (no) or 1 (yes), so that the mean is a share."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            CLIP_SCORE, "CLIPScore", "CLIPScore of image and prompt (label instead of *); 0 to 2.5, higher is better"
        ),
        Metric(AIS_COSINE, "AIS-cos", "AIS: cosine similarity of image and clip; -1 to 1, higher is better"),
        Metric(AIS_RANK, "AIS-rank", "AIS: share of other clips less similar to the image; chance 0.5, best 1"),
        Metric(JUDGE_PHENOMENON, "phenomenon", "accuracy: the judge recognises the clip's label in the image", True),
        Metric(
            JUDGE_INTENSITY,
            "judged intensity",
            "intensity that the judge reads off the image, 0 to 1; compare it to the clip's",
        ),
        Metric(JUDGE_TONE, "judged tone", "tone that the judge reads off the image, 0 to 1; compare it to the clip's"),
        Metric(
            JUDGE_BACKGROUND, "background", "accuracy: the judge recognises the background that the prompt names", True
        ),
    )
}
"""All metrics, by their names."""


def clip_score(
    images: Float[np.ndarray, "images dim"], captions: Float[np.ndarray, "images dim"]
) -> Float[np.ndarray, " images"]:
    """CLIPScore of each image and its caption, from 0 to 2.5.

    The caption is the whole prompt with the clips' labels in place of the cues, several cues included. The paper
    prefixes captions with "A photo depicts"; prompts already have such a prefix.

    Source: Hessel et al. 2021, "CLIPScore", section 3: w * max(cos, 0) with w = 2.5.
    """
    return _CLIP_SCORE_SCALE * np.maximum(_cosines(images, captions), 0)


def ais_cosine(
    images: Float[np.ndarray, "images dim"], clips: Float[np.ndarray, "images dim"]
) -> Float[np.ndarray, " images"]:
    """Audio-image similarity as a cosine of each image and its own clip, from -1 to 1.

    Its scale depends on the encoders: compare only values of the same pair.

    Source: AIS in MACS (arXiv 2503.10287), a plain cosine as well.
    """
    return _cosines(images, clips)


def ais_rank(
    images: Float[np.ndarray, "images dim"],
    clips: Float[np.ndarray, "images dim"],
    others: Float[np.ndarray, "others dim"],
    is_own: Bool[np.ndarray, "images others"],
) -> Float[np.ndarray, " images"]:
    """Audio-image similarity as a rank: the share of other clips less similar to the image than its own clip.

    1 is best, 0.5 is chance; a tie counts as not less. Other clips may have the same label, so an image reaches 1 only
    if it shows this very clip. `is_own` masks the image's own clips among `others`.

    Source: the mean over images is AIS in SonicDiffusion (arXiv 2405.00878), 1/(N|R|) sum of [<g_i, r> < <g_i, c_i>];
    here the pool R excludes the own clip, which never counts.
    """
    own = _cosines(images, clips)
    is_less = (images @ others.T < own[:, None]) & ~is_own
    num = (~is_own).sum(axis=1)
    return np.where(num > 0, is_less.sum(axis=1) / np.maximum(num, 1), np.nan)


def rank_correlation(truth: Float[np.ndarray, " items"], measured: Float[np.ndarray, " items"]) -> float:
    """Spearman's rank correlation.

    NaN for fewer than three items or a constant truth; 0 for constant measurements, which carry no information.
    """
    if len(truth) < _MIN_FOR_RANKS or np.ptp(truth) == 0:
        return math.nan
    if np.ptp(measured) == 0:
        return 0.0
    from scipy.stats import spearmanr  # takes a second, and only scores need it

    return float(spearmanr(truth, measured).statistic)


def mean_rank_correlation(
    groups: Sequence[str], truth: Float[np.ndarray, " items"], measured: Float[np.ndarray, " items"]
) -> float:
    """Spearman's rank correlation within each group, averaged over the groups where it is defined; NaN if none."""
    names = np.asarray(groups, object)
    members = [names == name for name in dict.fromkeys(groups)]
    correlations = [rank_correlation(truth[is_member], measured[is_member]) for is_member in members]
    defined = [correlation for correlation in correlations if not math.isnan(correlation)]
    return float(np.mean(defined)) if defined else math.nan


@dataclass(frozen=True)
class Aggregate:
    """Aggregated scores of a set of images."""

    num: int
    """Images with at least one score."""

    means: dict[str, float]
    """Mean of each metric, over the images that have it."""

    intensity: float | None
    """Spearman's rank correlation of true and judged intensity, averaged within groups; None if undefined."""

    tone: float | None = None
    """The same of true and judged tone."""


def aggregate(
    scores: Mapping[str, Float[np.ndarray, " images"]],
    groups: Sequence[str | None],
    intensities: Float[np.ndarray, " images"],
) -> Aggregate:
    """Aggregate the scores of a set of images; NaN is a missing score or an unknown true intensity.

    The rank correlation of intensities is taken within groups, as clips of one label in one job, and leaves out images
    without a group.
    """
    means = {name: float(np.nanmean(values)) for name, values in scores.items() if not np.isnan(values).all()}
    num = int(np.any([~np.isnan(values) for values in scores.values()], axis=0).sum()) if scores else 0
    correlation = math.nan
    if JUDGE_INTENSITY in scores:
        judged = scores[JUDGE_INTENSITY]
        is_known = ~np.isnan(judged) & ~np.isnan(intensities) & [group is not None for group in groups]
        known_groups = [group or "" for group, known in zip(groups, is_known, strict=True) if known]
        correlation = mean_rank_correlation(known_groups, intensities[is_known], judged[is_known])
    return Aggregate(num, means, None if math.isnan(correlation) else correlation)


def _cosines(
    left: Float[np.ndarray, "items dim"], right: Float[np.ndarray, "items dim"]
) -> Float[np.ndarray, " items"]:
    return np.einsum("id,id->i", left, right)
