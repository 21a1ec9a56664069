"""Deterministic ids of items, recipes of computations, and seeds of random numbers.

Nothing here depends on time, machine, order or worker, so another run can continue where one has stopped.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

_ID_BYTES = 16
_INT64_BYTES = 8
_RECIPE_BYTES = 6  # 12 hex digits: a workspace has few recipes, and people read them

_TICKS_PER_S = 1_000_000  # finer than any sample period, coarser than rounding errors


def content_id(data: bytes) -> str:
    """The digest of some bytes, as 32 hex digits."""
    return blake2b(data, digest_size=_ID_BYTES).hexdigest()


def image_id(data: bytes) -> str:
    """The id of an image: the digest of its file's bytes."""
    return content_id(data)


def clip_id(file_id: str, start_s: float, duration_s: float) -> str:
    """The id of a clip: a window of the audio file with the content id `file_id`.

    Times are rounded to microseconds.
    """
    window = [round(time_s * _TICKS_PER_S) for time_s in (start_s, duration_s)]
    return content_id(_encode([file_id, *window]))


def int64_of(item_id: str) -> int:
    """An id as a number from 0 to 2**63 - 1, for FAISS, where -1 means "none".

    Among a hundred million ids, two collide with a probability of 1 in 2,000.
    """
    return _int63(bytes.fromhex(item_id))


def seed_of(run_seed: int, stage: str, item_id: str, purpose: str, step: int = 0) -> int:
    """The seed of the random numbers of one purpose, from 0 to 2**63 - 1."""
    address = _encode([run_seed, stage, item_id, purpose, step])
    return _int63(blake2b(address, digest_size=_INT64_BYTES).digest())


def recipe_of(
    stage: str,
    options: BaseModel | Mapping[str, Any],
    models: Mapping[str, str],
    upstream: Mapping[str, str],
    code_version: int,
) -> str:
    """The recipe of a computation: the digest of everything that its results depend on.

    `models` maps a role to a name with its revision, `upstream` a table or artifact to the recipe under which it is
    read.

    Raises:
        TypeError: an option is not JSON data, such as a set, which has no order.
        ValueError: an option is not finite.
    """
    values = options.model_dump() if isinstance(options, BaseModel) else dict(options)
    recipe = _encode([stage, values, dict(models), dict(upstream), code_version])
    return blake2b(recipe, digest_size=_RECIPE_BYTES).hexdigest()


def _encode(value: Any) -> bytes:
    """Canonical JSON: equal values have equal bytes, different values different ones."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _int63(digest: bytes) -> int:
    return int.from_bytes(digest[:_INT64_BYTES], "big") >> 1
