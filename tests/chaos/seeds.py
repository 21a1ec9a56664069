"""Seeds of random faults: printed, and set to run one again."""

import os
import sys
from random import Random, SystemRandom

VARIABLE = "AAI_CHAOS_SEED"


def seed_of_this_run() -> Random:
    """Random numbers from the seed in the environment, or else from a new one.

    The seed is printed with the output of a test that fails.
    """
    seed = int(os.environ.get(VARIABLE) or SystemRandom().randrange(10**6))
    say(f"to run it again: {VARIABLE}={seed}")
    return Random(seed)


def say(*words: object) -> None:
    """Print for who runs the test."""
    sys.stderr.write("".join(f"{word}\n" for word in words))
