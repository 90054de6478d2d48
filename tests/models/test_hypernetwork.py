from __future__ import annotations

import pytest
import torch

from sdfsrn.functional.losses import sphere_loss
from sdfsrn.models.field import FieldConfig
from sdfsrn.models.hypernetwork import Hypernetwork

SHAPE = FieldConfig(width=24, depth=3, num_frequencies=2)


def test_a_few_hundred_steps_make_a_sphere_of_any_latent_code() -> None:
    """Sphere pretraining, eq. (26), on a tiny network; measured on codes and points it never saw."""
    network = Hypernetwork(latent_dim=8, hidden_width=32, num_hidden=2, field=SHAPE)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    latent, points = torch.randn(16, 8), 2 * torch.rand(16, 200, 3) - 1

    def error() -> float:
        with torch.no_grad():
            return sphere_loss(network(latent).sdf(points), points, 0.5).item()

    before = error()
    for _ in range(300):
        x = 2 * torch.rand(4, 256, 3) - 1
        loss = sphere_loss(network(torch.randn(4, 8)).sdf(x), x, 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < before / 10
    assert error() < 0.01


def test_every_layer_has_a_branch_of_its_own() -> None:
    network = Hypernetwork(latent_dim=5, hidden_width=8, num_hidden=2, field=SHAPE)
    latent = torch.randn(2, 5)
    assert len(network.branches) == len(SHAPE.layers) == 5
    for i, layer in enumerate(network.layers(latent)):
        network.zero_grad()
        (layer.weight.square().sum() + layer.bias.square().sum()).backward()
        for k, branch in enumerate(network.branches):
            used = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in branch.parameters()]
            assert any(used) == (i == k)


def test_a_branch_is_an_mlp_of_the_wanted_size() -> None:
    network = Hypernetwork(latent_dim=5, hidden_width=8, num_hidden=6, field=SHAPE)
    for branch, (inputs, outputs) in zip(network.branches, SHAPE.layers, strict=True):
        linears = [layer for layer in branch if isinstance(layer, torch.nn.Linear)]
        assert [linear.out_features for linear in linears] == [8] * 6 + [(inputs + 1) * outputs]
        assert isinstance(branch[-1], torch.nn.Linear)


def test_layers_have_the_fields_shapes_and_depend_on_the_latent_code() -> None:
    network = Hypernetwork(latent_dim=5, hidden_width=8, num_hidden=0, field=SHAPE)
    layers = network.layers(torch.randn(2, 5))
    for layer, (inputs, outputs) in zip(layers, SHAPE.layers, strict=True):
        assert layer.weight.shape == (2, inputs, outputs)
        assert layer.bias.shape == (2, 1, outputs)
        assert not torch.equal(layer.weight[0], layer.weight[1])


@pytest.mark.parametrize("wrong", [{"latent_dim": 0}, {"hidden_width": 0}, {"num_hidden": -1}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"{name}={wrong[name]}"):
        Hypernetwork(**{"latent_dim": 4, "hidden_width": 4, "num_hidden": 1, "field": SHAPE, **wrong})
