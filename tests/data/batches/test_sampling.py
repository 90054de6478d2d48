from __future__ import annotations

import itertools

import pytest
import torch

from sdfsrn.data import ShapeNetDataModule
from sdfsrn.data.batches.sampling import Position, SampleKey, StepSampler
from sdfsrn.runtime.seeds import generator, mixed_seed, sample_generator, seed_step


def batches(step: int, rank: int = 0, world_size: int = 1, size: int = 50, batch_size: int = 4) -> list[list[SampleKey]]:
    return list(StepSampler(size, batch_size, 7, lambda: Position(step, rank, world_size)))


def test_an_epoch_takes_pictures_once_and_drops_the_incomplete_batch() -> None:
    epochs = [batches(0), batches(12), batches(24)]
    for epoch in epochs:
        indices = [draw.picture for batch in epoch for draw in batch]
        assert [len(batch) for batch in epoch] == [4] * 12
        assert len(set(indices)) == 48
        assert set(indices) < set(range(50))
    assert len({tuple(draw.picture for batch in epoch for draw in batch) for epoch in epochs}) == 3
    numbers = [draw.number for epoch in epochs for batch in epoch for draw in batch]
    assert numbers == list(range(3 * 48))  # each sample of a run has its own random numbers


@pytest.mark.parametrize("done", [1, 5, 11])
def test_from_any_step_on_the_rest_of_the_epoch(done: int) -> None:
    assert batches(12 + done) == batches(12)[done:]


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 4), (4, 2), (8, 1)])
def test_processes_share_what_one_would_take(world_size: int, batch_size: int) -> None:
    shares = [batches(9, rank, world_size, batch_size=batch_size) for rank in range(world_size)]
    together = [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)]
    assert together == batches(9, batch_size=8)


def test_without_a_trainer_epochs_are_counted() -> None:
    sampler = StepSampler(50, 4, 7)
    assert len(sampler) == 12
    assert [list(sampler) for _ in range(3)] == [batches(0), batches(12), batches(24)]


def test_the_same_batches_to_overfit_with_new_random_numbers() -> None:
    sampler = StepSampler(50, 4, 7, steps=2)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(sampler) == 2
    assert [[d.picture for d in batch] for batch in first] == [[d.picture for d in batch] for batch in second]
    assert {d.number for batch in first for d in batch}.isdisjoint(d.number for batch in second for d in batch)


def test_seeds_of_different_numbers_differ() -> None:
    seeds = [mixed_seed(*numbers) for n in (1, 2, 3) for numbers in itertools.product(range(6), repeat=n)]
    assert len(set(seeds)) == len(seeds)  # also (1,), (1, 0) and (1, 0, 0), which NumPy alone would not tell apart
    draws = [torch.rand(3, generator=g).tolist() for g in (generator(0, 1), sample_generator(0, 1), sample_generator(1, 0))]
    assert len(set(map(tuple, draws))) == 3


def test_steps_and_processes_draw_their_own() -> None:
    found = []
    for step, rank in [(3, 0), (3, 1), (4, 0), (3, 0)]:
        seed_step(5, step, rank)
        found.append(torch.rand(4))
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_does_not_depend_on_workers_or_on_torch_s_state(workers: int, balls, monkeypatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")

    def load(num_workers: int) -> list[torch.Tensor]:
        module = ShapeNetDataModule(
            root=str(balls),
            category="airplane",
            batch_size=2,
            num_rays=9,
            jitter=True,
            scale_jitter=0.2,
            num_workers=num_workers,
        )
        loader = module.train_dataloader()
        batches = [module.on_after_batch_transfer(batch, 0) for _ in range(2) for batch in loader]
        return [x for views in batches for x in (views.image, views.uv, views.color, views.index)]

    first = load(0)
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(load(workers), first, strict=True))
    assert not torch.equal(first[0], first[-4])
