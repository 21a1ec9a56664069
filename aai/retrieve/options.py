"""Options of the index and of the retrieval from it."""

from typing import Literal

from pydantic import Field

from aai.options import Options

MIN_PER_LIST = 39
"""FAISS warns if k-means gets fewer training vectors per centroid."""

MIN_SAMPLE = 256 * MIN_PER_LIST
"""Training vectors that an 8-bit product quantiser needs for its 256 centroids."""


INDEX_FACTS = "index.json"
"""The file of an index artifact that has `num_images`, `dim` and `num_clips`."""


class IndexOptions(Options):
    """FAISS index of the image vectors: its type follows from the number of images."""

    max_exact: int = Field(1_000_000, ge=MIN_SAMPLE)
    """Maximum number of images for an exact (flat) index, which compares a query with every vector. A million vectors
    of 768 dimensions take 3 GB of memory."""

    max_scalar: int = Field(20_000_000, ge=0)
    """Maximum number of images for an IVF index with 8-bit scalar quantisation (SQ8: one byte per dimension). Larger
    collections use IVF with product quantisation."""

    code_bytes: int = Field(96, ge=1)
    """Product quantisation: maximum code size of a vector in bytes. The largest number up to it that divides the
    dimension is used. More bytes give better recall and take more memory."""

    num_probes: int = Field(64, ge=1)
    """IVF lists that a query searches (nprobe); an exact index ignores it. More of them give better recall and take
    longer."""

    training_per_cell: int = Field(64, ge=MIN_PER_LIST)
    """Training vectors per IVF list (k-means centroid), drawn at random."""


class RetrieveOptions(Options):
    """Retrieval of the images that supervise a clip's cue."""

    method: Literal["audio", "label"] = "audio"
    """`audio`: the images nearest to the clip's aligned vector. `label`: random images with the clip's label, without
    audio (a baseline)."""

    num_candidates: int = Field(200, ge=1)
    """Nearest images that the index returns per clip, from which the neighbours are chosen."""

    num_neighbours: int = Field(5, ge=1)
    """Maximum number of images per clip. A clip gets fewer if almost all candidates are near-duplicates."""

    duplicate_similarity: float = Field(0.95, gt=0, le=1)
    """Near-duplicates: of two candidates whose cosine similarity exceeds this, only the better one is kept."""

    diversity: float = Field(0.1, ge=0, le=1)
    """Maximal marginal relevance (MMR): weight of dissimilarity to the images chosen before, 1 - lambda. 0 takes the
    nearest images; higher values take images that differ more and match the sound less."""

    centring_strength: float = Field(0.75, ge=0, le=1)
    """Query centring, against hubs (images that are near to every clip): fraction of the mean aligned vector of all
    clips that is subtracted from each query. 0 disables it."""

    round: int = Field(1, ge=1)
    """Raise it to let all clips choose their images anew, once many images were added: a build leaves clips with the
    images that they have. Cues and pictures are then made again, and those of before stay readable."""

    min_bank_clips: int = Field(500, ge=1)
    """Minimum number of clips for query centring: the mean of fewer clips is unreliable, and is not subtracted."""
