"""Schedules of the learning rate: factors by step, for `torch.optim.lr_scheduler.LambdaLR`."""

from __future__ import annotations

import math


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Rises in a line over `warmup` steps, then falls from 1 to 0 at step `total`, as half a cosine (Loshchilov, Hutter 2017).

    At most a tenth of the steps are a warm-up. A function of the step alone, so that a run which is resumed with more steps
    follows the longer schedule.

    >>> [round(warmup_cosine(step, 2, 20), 2) for step in (0, 1, 2, 11, 20)]
    [0.33, 0.67, 1.0, 0.5, 0.0]
    >>> [round(warmup_cosine(step, 2, 4), 2) for step in range(5)]
    [1.0, 0.85, 0.5, 0.15, 0.0]
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    part = (step - warmup) / max(1, total - warmup)
    return cosine(part)


def cosine(part: float) -> float:
    """Half a cosine: 1 at 0, falling to 0 at 1, and 0 after it."""
    return (1 + math.cos(math.pi * min(1.0, part))) / 2
