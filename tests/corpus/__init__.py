"""Files of every kind that collections have, well-formed, odd and malformed, each with what must become of it.

The modules have the cases: `sounds`, `images` and `tars` well-formed ones with the contents that a reader must find,
`broken_sounds` and `broken_images` those that cannot be used, `names` odd names, `metadata` tables.
"""

from collections.abc import Sequence
from typing import Any

import pytest


def params(cases: Sequence[Any]) -> list[Any]:
    """The cases as parameters of a test."""
    return [pytest.param(case, id=case.name) for case in cases]
