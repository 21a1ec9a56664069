"""Random numbers of torch from seeds of 63 bits.

`torch.Generator.manual_seed` takes the lowest 32 bits of a seed: 5 and 2**32 + 5 would give the same noise. Here every
bit counts. Numbers are drawn on the CPU, so that they are the same on every device.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_NUM_WORDS = 624  # the state of the Mersenne Twister
_STATE = slice(24, 24 + 8 * _NUM_WORDS)  # in the bytes of a generator's state: each word takes 64 bits


def generator_of(seed: int) -> torch.Generator:
    """A CPU generator for a seed from 0 to 2**63 - 1.

    A seed below 2**32 gives the numbers of `torch.Generator().manual_seed(seed)`, and so the pictures of plain
    diffusers. For a larger one, numpy's `SeedSequence` hashes all bits to the whole state.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    if seed < 2**32:
        return generator
    state = generator.get_state()
    words = np.random.SeedSequence(seed).generate_state(_NUM_WORDS)
    state[_STATE] = torch.from_numpy(words.astype(np.int64)).view(torch.uint8)
    return generator.set_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed what torch draws without a generator, as the first weights of a network; for one thread."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(generator_of(seed).get_state())
        yield
