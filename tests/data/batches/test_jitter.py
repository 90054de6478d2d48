from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from sdfsrn.data.batches import jitter

REFERENCES = {
    jitter.brightness: v2.functional.adjust_brightness,
    jitter.contrast: v2.functional.adjust_contrast,
    jitter.saturation: v2.functional.adjust_saturation,
    jitter.hue: v2.functional.adjust_hue,
}


def randomly(image: torch.Tensor) -> torch.Tensor:
    return jitter.jitter(image, *(numbers.tolist() for numbers in jitter.random_changes()))


def colors() -> torch.Tensor:
    """Random ones, and every grey, edge and corner of the cube of colours."""
    line = torch.linspace(0, 1, 3)
    special = torch.cartesian_prod(line, line, line).T
    return torch.cat([torch.rand(3, 1000 - 27), special], 1).view(3, 25, 40)


@pytest.mark.parametrize("change", REFERENCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("factor", [-0.5, -0.31, 0.0, 0.17, 0.5])
def test_every_change_is_torchvisions(change, factor: float) -> None:
    image = colors()
    factor = factor if change is jitter.hue else 1 + factor
    torch.testing.assert_close(change(image, factor), REFERENCES[change](image, factor), atol=2e-6, rtol=0)


def test_a_turn_of_the_hue_and_back_is_nothing() -> None:
    image = colors()
    torch.testing.assert_close(jitter.hue(jitter.hue(image, 0.3), -0.3), image, atol=2e-6, rtol=0)
    red, green = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    torch.testing.assert_close(jitter.hue(red[:, None, None], 1 / 3), green[:, None, None])


def test_random_changes_have_the_range_and_the_spread_of_torchvisions() -> None:
    """Mean and deviation of some colours over many draws; two draws differ, one seed gives one."""
    image = torch.tensor([[0.8, 0.3, 0.5], [0.4, 0.5, 0.5], [0.2, 0.9, 0.5]])[:, None]
    reference = v2.ColorJitter(0.2, 0.2, 0.2, 0.5)
    ours = torch.stack([randomly(image) for _ in range(3000)])
    theirs = torch.stack([reference(image) for _ in range(3000)])
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.025, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.025, rtol=0)
    assert ours.min() >= 0
    assert ours.max() <= 1
    torch.manual_seed(3)
    one = randomly(image)
    torch.manual_seed(3)
    assert torch.equal(randomly(image), one)
    assert not torch.equal(randomly(image), one)
