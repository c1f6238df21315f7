"""A computation done again and again, with its working memory at other places of the heap each time."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np


def results(compute: Callable[[], np.ndarray], times: int = 12) -> set[bytes]:
    """Results that differ in any bit."""
    chance, found = random.Random(1), set()
    left = []
    for _ in range(times):
        found.add(np.ascontiguousarray(compute()).tobytes())
        blocks = [np.empty(chance.randrange(8, 1024), np.uint8) for _ in range(2000)]
        chance.shuffle(blocks)
        left.append(blocks[::3])  # the others leave gaps, filled in another order
        del blocks
    return found
