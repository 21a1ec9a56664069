"""Built-in caption vocabulary for zero-shot audio classification (alignment without training)."""

from functools import cache
from importlib.resources import files


@cache
def everyday_sounds() -> tuple[str, ...]:
    """Some 260 visible sound sources, as "a barking dog": each fits after "the sound of" and "a photo of"."""
    return tuple((files("aai.align") / "everyday_sounds.txt").read_text().splitlines())
