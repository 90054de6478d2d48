from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from sdfsrn.functional.encoding import positional_encoding
from sdfsrn.functional.losses import eikonal_loss
from sdfsrn.models.field import Field, FieldConfig, Linear

SHAPES = {
    "paper": FieldConfig(width=16, depth=4, num_frequencies=6),
    "paper, ordinary": FieldConfig(width=16, depth=4, num_frequencies=6, backbone="ordinary"),
    "authors": FieldConfig(width=16, depth=4, num_frequencies=5, frequency_scale=torch.pi),
    "without skip, ordinary": FieldConfig(width=16, depth=3, num_frequencies=2, skip=False, backbone="ordinary"),
    "without skip": FieldConfig(width=16, depth=3, num_frequencies=2, skip=False),
    "bare coordinates": FieldConfig(width=16, depth=3, num_frequencies=0),
    "bare, without skip": FieldConfig(width=16, depth=2, num_frequencies=0, skip=False),
    "one layer": FieldConfig(width=16, depth=1, num_frequencies=2),
    "symmetric": FieldConfig(width=16, depth=3, num_frequencies=3, symmetric=True, color_scale=0.3),
    "symmetric, ordinary": FieldConfig(width=16, depth=3, num_frequencies=3, symmetric=True, backbone="ordinary"),
    "narrower than its encoding": FieldConfig(width=4, depth=3, num_frequencies=6),
}
EACH = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def random_layers(shape: FieldConfig, count: int = 3) -> list[Linear]:
    double = {"dtype": torch.double}
    return [
        Linear(
            (0.3 * torch.randn(count, 1, outputs, **double)).requires_grad_(),
            (torch.randn(count, inputs, outputs, **double) / inputs**0.5).requires_grad_(),
        )
        for inputs, outputs in shape.layers
    ]


def literal(layers: list[Linear], shape: FieldConfig, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f and g of one object after another, as in appendix C: concatenate, linear layer, layer norm, ReLU."""
    sdfs, colors = [], []
    for i, x in enumerate(points):
        x = torch.stack([x[:, 0].abs() if shape.symmetric else x[:, 0], x[:, 1], x[:, 2]], -1)
        encoding = positional_encoding(x, shape.num_frequencies, shape.frequency_scale)
        feature = encoding
        for k, layer in enumerate(layers[:-2]):
            if k > 0 and shape.skip:
                feature = torch.cat([feature, encoding], -1)
            feature = F.relu(F.layer_norm(feature @ layer.weight[i] + layer.bias[i], (shape.width,)))
        sdfs.append((feature @ layers[-2].weight[i] + layers[-2].bias[i])[:, 0])
        colors.append(torch.tanh(shape.color_scale * (feature @ layers[-1].weight[i] + layers[-1].bias[i])))
    return torch.stack(sdfs), torch.stack(colors)


def flat(layers: list[Linear]) -> list[torch.Tensor]:
    return [tensor for layer in layers for tensor in layer]


@EACH
def test_field_is_the_literal_network(shape: FieldConfig) -> None:
    layers, points = random_layers(shape), torch.randn(3, 20, 3, dtype=torch.double)
    field = Field(layers, shape)
    sdf, feature = field(points)
    expected_sdf, expected_color = literal(layers, shape, points)
    torch.testing.assert_close(sdf, expected_sdf, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(field.color(feature), expected_color, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(field.sdf(points), sdf)
    assert feature.shape == (3, 20, shape.width)


@EACH
def test_gradient_is_autograds(shape: FieldConfig) -> None:
    layers, points = random_layers(shape), torch.randn(3, 20, 3, dtype=torch.double, requires_grad=True)
    field = Field(layers, shape)
    (expected,) = torch.autograd.grad(field.sdf(points).sum(), points)
    torch.testing.assert_close(field.gradient(points), expected, rtol=1e-9, atol=1e-10)


@EACH
def test_eikonal_loss_teaches_the_weights_what_double_backward_would(shape: FieldConfig) -> None:
    layers, points = random_layers(shape), torch.randn(3, 50, 3, dtype=torch.double)
    ours = eikonal_loss(Field(layers, shape).gradient(points))
    moving = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(literal(layers, shape, moving)[0].sum(), moving, create_graph=True)
    reference = eikonal_loss(gradient)
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
    weights = flat(layers)
    pairs = zip(
        torch.autograd.grad(ours, weights, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(reference, weights, allow_unused=True, materialize_grads=True),
        strict=True,
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_symmetric_field_is_its_own_mirror_image() -> None:
    field = Field(random_layers(SHAPES["symmetric"]), SHAPES["symmetric"])
    points, turn = torch.randn(3, 50, 3, dtype=torch.double), torch.tensor([-1.0, 1.0, 1.0], dtype=torch.double)
    for ours, mirrored in zip(field(points), field(points * turn), strict=True):
        assert torch.equal(ours, mirrored)
    assert torch.equal(field.gradient(points) * turn, field.gradient(points * turn))
    other = Field(random_layers(SHAPES["paper"]), SHAPES["paper"])
    assert not torch.allclose(other.sdf(points), other.sdf(points * turn), atol=0.01)


def test_gradient_passes_gradcheck() -> None:
    shape = FieldConfig(width=5, depth=2, num_frequencies=1)
    layers, points = random_layers(shape, 1), torch.randn(1, 3, 3, dtype=torch.double, requires_grad=True)

    def gradient(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return Field([Linear(b, w) for b, w in zip(weights[::2], weights[1::2], strict=True)], shape).gradient(x)

    assert torch.autograd.gradcheck(gradient, (points, *flat(layers)))


def test_some_objects_of_a_batch_are_the_batch() -> None:
    shape = SHAPES["paper"]
    layers, points = random_layers(shape), torch.randn(3, 20, 3, dtype=torch.double)
    field = Field(layers, shape)
    for i in range(3):
        one = field[i : i + 1]
        for ours, whole in zip(one(points[i : i + 1]), field(points), strict=True):
            torch.testing.assert_close(ours, whole[i : i + 1], rtol=1e-11, atol=1e-12)
        whole = field.gradient(points)[i : i + 1]
        torch.testing.assert_close(one.gradient(points[i : i + 1]), whole, rtol=1e-9, atol=1e-10)


def test_detached_field_is_the_same_and_teaches_nothing() -> None:
    shape = SHAPES["paper"]
    layers = random_layers(shape)
    field, points = Field(layers, shape), torch.randn(3, 5, 3, dtype=torch.double, requires_grad=True)
    frozen = field.detach()
    assert torch.equal(frozen.sdf(points), field.sdf(points))
    frozen.sdf(points).sum().backward()
    assert points.grad is not None
    assert all(tensor.grad is None for tensor in flat(layers))


def test_objects_do_not_see_each_other() -> None:
    shape = SHAPES["paper"]
    layers, points = random_layers(shape), torch.randn(3, 20, 3, dtype=torch.double)
    Field(layers, shape).sdf(points)[1].sum().backward()
    used = flat(layers[:-1])
    assert all(tensor.grad[1].abs().sum() > 0 for tensor in used)
    assert all(tensor.grad[[0, 2]].abs().sum() == 0 for tensor in used)


def test_shape_counts_its_layers() -> None:
    shape = FieldConfig()
    assert shape.encoding_width == 39
    assert shape.layers == [(39, 128), (167, 128), (167, 128), (167, 128), (128, 1), (128, 3)]
    assert dataclasses.replace(shape, skip=False).layers[1] == (128, 128)


def test_color_stays_within_its_range() -> None:
    shape = SHAPES["paper"]
    color = Field(random_layers(shape), shape).color(100 * torch.randn(3, 20, 16, dtype=torch.double))
    assert color.abs().max() <= 1


def test_unknown_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fused\|ordinary, got none"):
        FieldConfig(backbone="none")
