"""Image metrics (CLIPScore, audio-image similarity) and their aggregation.

Embeddings are unit vectors of one image-text encoder: of images, of captions, and of clips after alignment. NaN stands
for an undefined value, as the rank of a clip among no others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

_CLIP_SCORE_SCALE = 2.5  # Hessel et al. 2021, section 3: stretches typical cosines of CLIP ViT-B/32 to 0 to 1
_MIN_FOR_RANKS = 3  # the rank correlation of two items is always 1, 0 or -1

CLIP_SCORE, AIS_COSINE, AIS_RANK, AIS_Z = "clip_score", "ais_cosine", "ais_rank", "ais_z"
IIS_COSINE, IIS_RANK, AIC, IMAGE_REWARD = "iis_cosine", "iis_rank", "aic", "image_reward"
KID, CMMD, DIVERSITY = "kid", "cmmd", "diversity"
JUDGE_PHENOMENON, JUDGE_INTENSITY, JUDGE_BACKGROUND = "judge_phenomenon", "judge_intensity", "judge_background"
JUDGE_TONE = "judge_tone"
KEPT_PSNR, KEPT_SSIM, KEPT_DISTANCE = "kept_psnr", "kept_ssim", "kept_distance"
STRUCTURE, MASK_IOU = "structure", "mask_iou"

MAX_PSNR_DB = 20 * math.log10(255)
"""PSNR if all pixels differ by one level, 48.1 dB: what differs less looks the same, and a mean stays finite."""

Role = Literal["image_text", "sounds", "images", "judge", "reward", "patches", "pixels"]
"""What a metric asks: the image-text encoder, the encoder that hears and sees (`models.audio_judge`), the encoder of
the index, the judge, the reward model, the image-text encoder's patches of an edit and its source, or only pixels."""


@dataclass(frozen=True)
class Metric:
    """Description of a metric: of the table `scores`, or of `aai evaluate`."""

    name: str
    """As stored in the column `metric`."""

    label: str
    """Short name, for column headers."""

    help: str
    """One line: what it measures, its range, and which direction is better."""

    is_share: bool = False
    """Whether values are 0 (no) or 1 (yes), so that the mean is a share."""

    source: str = "AAI"
    """Where its definition is from."""

    direction: Literal["up", "down", "truth"] = "up"
    """Whether higher or lower values are better; `truth`: those that agree with the clip's own."""

    low: float = 0.0
    """Lowest value."""

    high: float = 1.0
    """Highest value; infinite without one."""

    role: Role = "pixels"
    """What it asks. It is not independent where that is what retrieved the images."""

    truth: str | None = None
    """Of a degree that the judge reads off pictures: the column of the metadata with the clip's own."""

    of_set: bool = False
    """Whether it is one value for a set of pictures, and not one for each."""


def _judged(name: str, label: str, what: str, truth: str) -> Metric:
    """A degree from 0 to 1 that the judge reads off pictures."""
    sentence = f"{what} that the judge reads off the image, 0 to 1; compare it to the clip's"
    return Metric(name, label, sentence, direction="truth", role="judge", truth=truth)


_SONIC, _MACS = "SonicDiffusion, arXiv 2405.00878", "MACS, arXiv 2503.10287"
_DIRECT = "Direct Inversion, arXiv 2310.01506"
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            JUDGE_PHENOMENON,
            "phenomenon",
            "share of images in which the judge recognises the clip's label; 0 to 1, higher is better",
            True,
            role="judge",
        ),
        _judged(JUDGE_INTENSITY, "judged intensity", "intensity", "intensity"),
        Metric(
            JUDGE_BACKGROUND,
            "background",
            "share of images in which the judge recognises the background in the prompt; 0 to 1, higher is better",
            True,
            role="judge",
        ),
        _judged(JUDGE_TONE, "judged tone", "tone", "tone"),
        Metric(
            CLIP_SCORE,
            "CLIPScore",
            "how well image and prompt agree (with the label for *), by cosine; 0 to 2.5, higher is better",
            source="Hessel et al. 2021, section 3",
            high=2.5,
            role="image_text",
        ),
        Metric(
            IIS_COSINE,
            "IIS-cos",
            "image-image similarity: cosine of the image and the clip's own image; -1 to 1, higher is better",
            source=_MACS,
            low=-1.0,
            role="image_text",
        ),
        Metric(
            IIS_RANK,
            "IIS-rank",
            "image-image similarity: share of other clips' own images less similar to the image; chance 0.5, best 1",
            source=_SONIC,
            role="image_text",
        ),
        Metric(
            AIC,
            "AIC",
            "audio-image content: share of images to which the clip's is the most similar of all labels; 1 is best",
            True,
            source=_SONIC,
            role="image_text",
        ),
        Metric(
            IMAGE_REWARD,
            "ImageReward",
            "how a model of people's preferences rates image and prompt (label for *); about -2 to 2, higher is better",
            source="Xu et al. 2023, arXiv 2304.05977",
            low=-math.inf,
            high=math.inf,
            role="reward",
        ),
        Metric(
            AIS_COSINE,
            "AIS-cos",
            "audio-image similarity: cosine of image and clip; -1 to 1, higher is better",
            source=_MACS,
            low=-1.0,
            role="sounds",
        ),
        Metric(
            AIS_RANK,
            "AIS-rank",
            "audio-image similarity: share of other clips less similar to the image; chance 0.5, best 1",
            source=_SONIC,
            role="sounds",
        ),
        Metric(
            AIS_Z,
            "AIS-z",
            "audio-image similarity: standard deviations above the method's other images (5 or more); higher is better",
            source=_MACS,
            low=-math.inf,
            high=math.inf,
            role="sounds",
        ),
        Metric(
            KID,
            "KID",
            "kernel distance of the images from the collection's, by the encoder of the index; unbiased, 0 is best",
            source="Binkowski et al. 2018; clean-fid",
            direction="down",
            low=-math.inf,
            high=math.inf,
            role="images",
            of_set=True,
        ),
        Metric(
            CMMD,
            "CMMD",
            "kernel distance as KID, with a Gaussian kernel and times 1,000; 0 is best",
            source="Jayasumana et al. 2024, arXiv 2401.09603",
            direction="down",
            high=2_000.0,
            role="images",
            of_set=True,
        ),
        Metric(
            DIVERSITY,
            "diversity",
            "mean cosine distance between images of a clip with different seeds; 0 to 2, higher is more varied",
            high=2.0,
            role="image_text",
        ),
        Metric(
            KEPT_PSNR,
            "kept PSNR",
            "PSNR of an edit and its source over the pixels to be kept, in dB; at most 48.1, higher is better",
            source=_DIRECT,
            high=MAX_PSNR_DB,
        ),
        Metric(
            KEPT_SSIM,
            "kept SSIM",
            "SSIM of an edit and its source over the pixels to be kept; 1 is best",
            source=_DIRECT,
            low=-1.0,
        ),
        Metric(
            KEPT_DISTANCE,
            "kept distance",
            "distance of an edit's and its source's patch features, as LPIPS, where it is to be kept; 0 is best",
            source="after Zhang et al. 2018, arXiv 1801.03924",
            direction="down",
            high=4.0,
            role="patches",
        ),
        Metric(
            STRUCTURE,
            "structure",
            "mean squared difference of the self-similarities of an edit's and its source's patches; 0 is best",
            source="Tumanyan et al. 2022, arXiv 2201.00424",
            direction="down",
            high=4.0,
            role="patches",
        ),
        Metric(MASK_IOU, "mask IoU", "intersection over union of the mask of an edit and the true one; 1 is best"),
    )
}
"""All metrics, by their names."""

KEPT = (KEPT_PSNR, KEPT_SSIM, KEPT_DISTANCE)
"""Metrics of edits that need to know which pixels are to be kept."""

DEGREES = {name: metric for name, metric in METRICS.items() if metric.truth}
"""Metrics that are compared with a degree in the clips' metadata."""


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
class Agreement:
    """How a measured degree agrees with the true one; None where that is undefined."""

    rank: float | None = None
    """Spearman's rank correlation within groups, averaged; 1 is best."""

    bias: float | None = None
    """Mean of measured minus true; 0 is best."""

    slope: float | None = None
    """Slope of measured on true within groups, by least squares; 1 is best."""


def agreement(
    groups: Sequence[str], truth: Float[np.ndarray, " items"], measured: Float[np.ndarray, " items"]
) -> Agreement:
    """How a measured degree agrees with the true one: a rank correlation alone hides that all is too strong."""
    if not len(truth):
        return Agreement()
    names, x, y = np.asarray(groups, object), truth.astype(float), measured.astype(float)
    for name in dict.fromkeys(groups):
        own = names == name
        spread = np.ptp(x[own]) > 0  # equal values differ from their mean by rounding
        x, y = (np.where(own, each - each[own].mean() if spread else 0, each) for each in (x, y))
    rank, variance = mean_rank_correlation(groups, truth, measured), float(x @ x)
    slope = float(x @ y) / variance if variance > 0 else None
    return Agreement(None if math.isnan(rank) else rank, float((measured - truth).mean()), slope)


@dataclass(frozen=True)
class Aggregate:
    """Aggregated scores of a set of images."""

    num: int
    """Images with at least one score."""

    means: dict[str, float]
    """Mean of each metric, over the images that have it."""

    intensity: Agreement
    """Of the true and the judged intensity."""

    tone: Agreement = Agreement()
    """The same of the tone."""


def aggregate(
    scores: Mapping[str, Float[np.ndarray, " images"]],
    groups: Sequence[str | None],
    intensities: Float[np.ndarray, " images"],
) -> Aggregate:
    """Aggregate the scores of a set of images; NaN is a missing score or an unknown true intensity.

    The agreement of intensities is taken within groups, as clips of one label in one job, and leaves out images
    without a group.
    """
    means = {name: float(np.nanmean(values)) for name, values in scores.items() if not np.isnan(values).all()}
    num = int(np.any([~np.isnan(values) for values in scores.values()], axis=0).sum()) if scores else 0
    found = Agreement()
    if JUDGE_INTENSITY in scores:
        judged = scores[JUDGE_INTENSITY]
        is_known = ~np.isnan(judged) & ~np.isnan(intensities) & [group is not None for group in groups]
        known_groups = [group or "" for group, known in zip(groups, is_known, strict=True) if known]
        found = agreement(known_groups, intensities[is_known], judged[is_known])
    return Aggregate(num, means, found)


def _cosines(
    left: Float[np.ndarray, "items dim"], right: Float[np.ndarray, "items dim"]
) -> Float[np.ndarray, " items"]:
    return np.einsum("id,id->i", left, right)
