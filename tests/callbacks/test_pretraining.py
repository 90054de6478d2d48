from __future__ import annotations

import pathlib

import pytest
import torch

from sdfsrn.callbacks import SpherePretraining
from sdfsrn.models import FieldConfig, Hypernetwork


@pytest.fixture
def hypernetwork() -> Hypernetwork:
    torch.manual_seed(0)
    return Hypernetwork(8, 32, 1, FieldConfig(width=32, depth=3, num_frequencies=2))


def test_gives_spheres_for_unseen_codes(hypernetwork: Hypernetwork) -> None:
    points, latent = torch.rand(8, 2000, 3) * 2 - 1, torch.randn(8, 8)

    def error() -> torch.Tensor:
        with torch.no_grad():
            return (hypernetwork(latent).sdf(points) - (points.norm(dim=-1) - 0.4)).square().mean().sqrt()

    before = error()
    SpherePretraining(radius=0.4, iterations=400, num_points=2000, learning_rate=1e-3).fit(hypernetwork)
    assert error() < before / 5


def test_leaves_random_numbers_alone(hypernetwork: Hypernetwork) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    SpherePretraining(iterations=3, num_points=64).fit(hypernetwork)
    assert torch.equal(torch.rand(4), expected)


def test_cached_result_is_the_same(hypernetwork: Hypernetwork, tmp_path: pathlib.Path) -> None:
    start = {k: v.clone() for k, v in hypernetwork.state_dict().items()}
    callback = SpherePretraining(iterations=20, num_points=256, cache=str(tmp_path))
    callback._start(hypernetwork)
    made = {k: v.clone() for k, v in hypernetwork.state_dict().items()}
    (file,) = tmp_path.iterdir()
    hypernetwork.load_state_dict(start)
    callback.fit = None  # must not be needed
    callback._start(hypernetwork)
    assert all(torch.equal(made[k], v) for k, v in hypernetwork.state_dict().items())

    hypernetwork.load_state_dict(start)
    file.write_bytes(b"damaged")
    SpherePretraining(iterations=20, num_points=256, cache=str(tmp_path))._start(hypernetwork)
    assert all(torch.equal(made[k], v) for k, v in hypernetwork.state_dict().items())


def test_other_settings_or_starts_are_other_files(hypernetwork: Hypernetwork, tmp_path: pathlib.Path) -> None:
    paths = {SpherePretraining(radius=r, cache=str(tmp_path))._path(hypernetwork) for r in (0.4, 0.5)}
    torch.nn.init.zeros_(hypernetwork.branches[0][0].weight)
    paths.add(SpherePretraining(cache=str(tmp_path))._path(hypernetwork))
    assert len(paths) == 3


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_cache(hypernetwork: Hypernetwork) -> None:
    start = {k: v.clone() for k, v in hypernetwork.state_dict().items()}
    with pytest.warns(UserWarning, match="Could not write to the cache /proc/cache: .*SDFSRN_CACHE"):
        SpherePretraining(iterations=20, num_points=256, cache="/proc/cache")._start(hypernetwork)
    assert any(not torch.equal(start[k], v) for k, v in hypernetwork.state_dict().items())
