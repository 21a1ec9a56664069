"""Options of the index and of the retrieval from it."""

from typing import Literal

from pydantic import Field

from aai.options import Options

LEAST_PER_CELL = 39
"""FAISS calls a centre of k-means badly trained when it sees fewer vectors."""

LEAST_SAMPLE = 256 * LEAST_PER_CELL
"""What an 8-bit product quantiser needs to train its 256 centres."""


class IndexOptions(Options):
    """Which type of index is built, and how thoroughly it is searched."""

    max_exact: int = Field(1_000_000, ge=LEAST_SAMPLE)
    """Up to so many vectors are stored whole and searched one and all: 3 GB for a million of dimension 768."""

    max_scalar: int = Field(20_000_000, ge=0)
    """Up to so many are put into cells and stored in a byte a dimension; beyond, in `code_bytes`."""

    code_bytes: int = Field(96, ge=1)
    """Most bytes of a vector under product quantisation; the largest number that divides the dimension is taken."""

    num_probes: int = Field(64, ge=1)
    """Cells that a query looks into; more of them find more of the true neighbours and take longer."""

    training_per_cell: int = Field(64, ge=LEAST_PER_CELL)
    """Vectors, drawn at random, from which the centre of one cell is learned."""


class RetrieveOptions(Options):
    """How a clip's images are chosen."""

    method: Literal["audio", "label"] = "audio"
    """`audio`: the images nearest to what is heard. `label`: any images that have the clip's label, to compare with:
    that is all that inversion without audio knows of a clip."""

    num_candidates: int = Field(200, ge=1)
    """Nearest images among which the choice is made."""

    num_neighbours: int = Field(5, ge=1)
    """Most images that a clip gets; fewer where the candidates are nearly all duplicates."""

    duplicate_similarity: float = Field(0.95, gt=0, le=1)
    """Two images with a higher cosine are taken for the same; the better one stays."""

    diversity: float = Field(0.1, ge=0, le=1)
    """The weight of being unlike what is chosen already, against that of fitting the clip: 1 - lambda of MMR."""

    centring_strength: float = Field(0.75, ge=0, le=1)
    """How much of the mean query is subtracted from every query."""

    min_bank_clips: int = Field(500, ge=1)
    """With fewer clips their own mean says too little, and a given one is used, or none."""
