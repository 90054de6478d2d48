"""Which pictures make a training batch, and their random numbers: functions of the seed and of the step, and of nothing before.

So a run that is resumed at a step sees what it would have seen: with any number of workers, on one process or on many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One sample of a training run: the `number`-th of all, of that picture of the split."""

    picture: int
    number: int


class Position(NamedTuple):
    """Where a training run is: the batches that it has behind it, and this process among how many."""

    step: int
    rank: int
    world_size: int


class StepSampler(Sampler[list[Draw]]):
    """Batches of an epoch, from the run's step on: every epoch is a new permutation, its incomplete last batch is dropped.

    The processes of a run share each step's pictures: rank k takes the k-th `batch_size` of them.

    Args:
        size: pictures of the split.
        batch_size: pictures a batch and a process.
        seed: of the permutations.
        position: asked at the start of every epoch; None counts the epochs that were taken from this sampler.
        steps: at most so many different batches, the same ones in every epoch (to overfit them); None takes all.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        position: Callable[[], Position] | None = None,
        steps: int | None = None,
    ) -> None:
        self.size, self.batch_size, self.seed, self.steps = size, batch_size, seed, steps
        self._position, self._epochs = position, 0

    def __len__(self) -> int:
        world_size = self._position().world_size if self._position else 1
        total = self.size // (self.batch_size * world_size)
        return total if self.steps is None else min(total, self.steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        count = len(self)
        step, rank, world_size = self._position() if self._position else (self._epochs * count, 0, 1)
        self._epochs += 1
        epoch, done = divmod(step, count)
        order = torch.randperm(self.size, generator=generator(self.seed, _ORDER, 0 if self.steps else epoch)).tolist()
        together = self.batch_size * world_size
        for batch in range(done, count):
            first = batch * together + rank * self.batch_size
            number = (step - done) * together + first
            yield [Draw(order[first + i], number + i) for i in range(self.batch_size)]


_ORDER, _SAMPLE, _STEP = range(3)  # what random numbers are for


def sample_generator(seed: int, number: int) -> torch.Generator:
    """The random numbers of a run's `number`-th sample."""
    return generator(seed, _SAMPLE, number)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Give torch, on all devices, the random numbers of a process at a step."""
    torch.manual_seed(mixed_seed(seed, _STEP, step, rank))


def run_seed() -> int:
    """The seed that `pytorch_lightning.seed_everything` was given; 0 without."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def mixed_seed(*numbers: int) -> int:
    """One seed made of several numbers, by NumPy's `SeedSequence`."""
    return int(np.random.SeedSequence([len(numbers), *numbers]).generate_state(1, np.uint64)[0])


def generator(*numbers: int) -> torch.Generator:
    """Random numbers on the CPU that depend on these numbers only."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))
