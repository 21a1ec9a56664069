"""What may be heard: the shipped list of everyday sounds, for aligning without training."""

from functools import cache
from importlib.resources import files


@cache
def everyday_sounds() -> tuple[str, ...]:
    """Some 260 sights that have a sound, as "a barking dog": each can follow "the sound of" and "a photo of"."""
    return tuple((files("aai.align") / "everyday_sounds.txt").read_text().splitlines())
