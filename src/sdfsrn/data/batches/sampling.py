"""The pictures of a training batch and their random numbers, as functions of the seed and the step alone.

A run that is resumed at a step sees the same samples, with any number of workers and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from sdfsrn.runtime.seeds import ORDER, generator


class SampleKey(NamedTuple):
    """The `number`-th sample of a training run, made of one picture of the split."""

    picture: int
    number: int


class Position(NamedTuple):
    """State of a training run: completed batches, and the rank of this process among `world_size`."""

    step: int
    rank: int
    world_size: int


class StepSampler(Sampler[list[SampleKey]]):
    """Batches of an epoch, from the run's step on: every epoch is a new permutation, its incomplete last batch is dropped.

    The processes of a run share each step's pictures: rank k takes the k-th `batch_size` of them.

    Args:
        size: pictures of the split.
        batch_size: pictures per batch and process.
        seed: of the permutations.
        position: called at the start of every epoch; None counts the epochs of this sampler.
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

    def __iter__(self) -> Iterator[list[SampleKey]]:
        count = len(self)
        step, rank, world_size = self._position() if self._position else (self._epochs * count, 0, 1)
        self._epochs += 1
        epoch, done = divmod(step, count)
        order = torch.randperm(self.size, generator=generator(self.seed, ORDER, 0 if self.steps else epoch)).tolist()
        together = self.batch_size * world_size
        for batch in range(done, count):
            first = batch * together + rank * self.batch_size
            number = (step - done) * together + first
            yield [SampleKey(order[first + i], number + i) for i in range(self.batch_size)]
