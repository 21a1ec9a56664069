"""Names that follow from contents: ids of items, recipes of computations, seeds of random numbers.

Nothing here depends on time, place, order or worker, so a run can stop anywhere and be continued by another.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

_ID_BYTES = 16
_INT64_BYTES = 8
_RECIPE_BYTES = 6  # 12 hex digits: a workspace holds few recipes, and people read them

_TICKS_PER_S = 1_000_000  # finer than any sample rate, coarser than rounding errors


def content_id(data: bytes) -> str:
    """The hex digest of some bytes."""
    return blake2b(data, digest_size=_ID_BYTES).hexdigest()


def image_id(data: bytes) -> str:
    """The id of an image: the digest of its file's bytes."""
    return content_id(data)


def clip_id(file_id: str, start_s: float, duration_s: float) -> str:
    """The id of a clip: one window of the audio file whose `content_id` is given.

    Times that differ by less than a microsecond are the same.
    """
    window = [round(time_s * _TICKS_PER_S) for time_s in (start_s, duration_s)]
    return content_id(_encode([file_id, *window]))


def int64_of(item_id: str) -> int:
    """An id as a number from 0 to 2**63 - 1, for FAISS, which keeps -1 for "none".

    Two of a hundred million ids meet with a chance of 1 in 2,000.
    """
    return _int63(bytes.fromhex(item_id))


def seed_of(run_seed: int, stage: str, item_id: str, purpose: str, step: int = 0) -> int:
    """The seed, from 0 to 2**63 - 1, of the random numbers at one address."""
    address = _encode([run_seed, stage, item_id, purpose, step])
    return _int63(blake2b(address, digest_size=_INT64_BYTES).digest())


def recipe_of(
    stage: str,
    options: BaseModel | Mapping[str, Any],
    models: Mapping[str, str],
    upstream: Mapping[str, str],
    code_version: int,
) -> str:
    """The name of a computation: whatever can change its results changes its name.

    `models` maps a role to a name with its revision, `upstream` a table or artifact to the recipe it is read under.

    Raises:
        TypeError: an option is neither a number, text, truth value, None, list nor mapping (a set has no order).
        ValueError: an option is not finite.
    """
    values = options.model_dump() if isinstance(options, BaseModel) else dict(options)
    recipe = _encode([stage, values, dict(models), dict(upstream), code_version])
    return blake2b(recipe, digest_size=_RECIPE_BYTES).hexdigest()


def _encode(value: Any) -> bytes:
    """One text for equal values, different texts for different ones: JSON with its keys in order."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _int63(digest: bytes) -> int:
    return int.from_bytes(digest[:_INT64_BYTES], "big") >> 1
