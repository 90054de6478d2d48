"""Random numbers as functions of the run's seed and of their purpose."""

from __future__ import annotations

import os

import numpy as np
import pytorch_lightning as pl
import torch

ORDER, _SAMPLE, _STEP = range(3)  # purposes of random numbers


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, torch and the loaders' workers."""
    pl.seed_everything(seed, workers=True, verbose=False)


def sample_generator(seed: int, number: int) -> torch.Generator:
    """A generator of the random numbers of a run's `number`-th sample."""
    return generator(seed, _SAMPLE, number)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch, on all devices, for a step of one process."""
    torch.manual_seed(mixed_seed(seed, _STEP, step, rank))


def run_seed() -> int:
    """The seed that `pytorch_lightning.seed_everything` was given; 0 without."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def mixed_seed(*numbers: int) -> int:
    """One seed from several numbers, by NumPy's `SeedSequence`."""
    return int(np.random.SeedSequence([len(numbers), *numbers]).generate_state(1, np.uint64)[0])


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU that depends on these numbers only."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))
