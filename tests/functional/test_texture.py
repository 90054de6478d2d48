"""Texture flow: recorded values, and where the barrier stands."""

from __future__ import annotations

import pytest
import torch

from sdfsrn.functional.texture import barrier, sample_map, sphere_uv
from softras import double, softras_values

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def test_places_on_the_sphere_have_their_recorded_values() -> None:
    for record in softras_values("sphere_uv"):
        torch.testing.assert_close(sphere_uv(double(record["point"])), double(record["uv"]), **EXACT)


def test_maps_are_sampled_between_outer_corners() -> None:
    record = softras_values("flow_sampling")
    values = sample_map(double(record["picture"])[None, None], double(record["points"])[None])
    torch.testing.assert_close(values[0, :, 0], double(record["outer_corners"]), **EXACT)


def test_the_barrier_has_its_recorded_values() -> None:
    record = softras_values("barrier_transform")
    found = barrier(torch.tensor(record["mask"])[None] > 0, record["k"])
    torch.testing.assert_close(found[0].double(), double(record["value"]), rtol=1e-5, atol=1e-9)


def test_the_barrier_rises_from_the_inside_out() -> None:
    y, x = torch.meshgrid(*[torch.arange(32) - 15.5] * 2, indexing="ij")
    distance = (x.square() + y.square()).sqrt()
    mask = distance < 8
    found = barrier(mask[None])[0]
    assert (found[mask] < 0.5).all()
    assert (found[~mask] > 0.5).all()
    row = found[15, 16:]  # from the centre to the border
    assert (row.diff() >= 0).all()
    assert row[0] < 0.001
    assert row[-1] > 0.999


@pytest.mark.parametrize(("mask", "value"), [(torch.zeros(1, 8, 8), 1.0), (torch.ones(1, 8, 8), 0.0)])
def test_a_picture_without_outline_has_a_finite_barrier(mask: torch.Tensor, value: float) -> None:
    torch.testing.assert_close(barrier(mask > 0), torch.full((1, 8, 8), value))
