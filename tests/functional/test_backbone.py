from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sdfsrn.functional import fused_backbone as module
from sdfsrn.functional.backbone import BackboneLayer
from sdfsrn.functional.fused_backbone import backbone, backbone_vjp

DOUBLE = {"dtype": torch.double}
COUNT, ENCODING = 3, 5
EACH = pytest.mark.parametrize("widths", [[6], [6, 6, 6], [4, 7, 3]], ids=str)


def random_layers(widths: list[int]) -> list[BackboneLayer]:
    layers = []
    for k, width in enumerate(widths):
        feature = torch.randn(COUNT, widths[k - 1], width, **DOUBLE).requires_grad_() if k else None
        layers.append(BackboneLayer(feature, torch.randn(COUNT, ENCODING, width, **DOUBLE).requires_grad_()))
    return layers


def literal(encoding: torch.Tensor, layers: list[BackboneLayer]) -> torch.Tensor:
    feature = encoding[..., :0]
    for w_f, w_e in layers:
        x = torch.cat([feature, encoding], -1) @ torch.cat([w for w in (w_f, w_e) if w is not None], 1)
        feature = F.relu(F.layer_norm(x, x.shape[-1:]))
    return feature


def centered(layers: list[BackboneLayer]) -> list[BackboneLayer]:
    return [layer.centered() for layer in layers]


def tensors(layers: list[BackboneLayer]) -> list[torch.Tensor]:
    return [tensor for layer in layers for tensor in layer if tensor is not None]


def assert_same_grads(ours: torch.Tensor, theirs: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    cotangent = torch.randn_like(ours)
    options = {"allow_unused": True, "materialize_grads": True}
    for a, b in zip(
        torch.autograd.grad(ours, inputs, cotangent, **options),
        torch.autograd.grad(theirs, inputs, cotangent, **options),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@EACH
@pytest.mark.parametrize("tile", [2**13, 4 * COUNT, 1])
def test_values_and_gradients_are_autograds(widths: list[int], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the points are taken a few at a time, or one by one."""
    monkeypatch.setattr(module, "_TILE", tile)
    layers = random_layers(widths)
    encoding = torch.randn(COUNT, 10, ENCODING, **DOUBLE, requires_grad=True)
    assert_same_grads(backbone(encoding, centered(layers)), literal(encoding, layers), [encoding, *tensors(layers)])


@EACH
@pytest.mark.parametrize("tile", [2**13, 4 * COUNT, 1])
def test_vjp_and_its_gradients_are_autograds(widths: list[int], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TILE", tile)
    layers = random_layers(widths)
    encoding = torch.randn(COUNT, 10, ENCODING, **DOUBLE, requires_grad=True)
    cotangent = torch.randn(COUNT, 1, widths[-1], **DOUBLE, requires_grad=True)
    feature = literal(encoding, layers)
    (expected,) = torch.autograd.grad(feature, encoding, cotangent.expand_as(feature), create_graph=True)
    ours = backbone_vjp(encoding, cotangent, centered(layers))
    assert_same_grads(ours, expected, [encoding, cotangent, *tensors(layers)])


def test_what_is_differentiated_twice_is_refused() -> None:
    layers, encoding = random_layers([6, 6]), torch.randn(COUNT, 4, ENCODING, **DOUBLE, requires_grad=True)
    for value in (backbone(encoding, layers), backbone_vjp(encoding, torch.ones(COUNT, 1, 6, **DOUBLE), layers)):
        with pytest.raises(RuntimeError, match=r"Field\.gradient"):
            torch.autograd.grad(value.sum(), encoding, create_graph=True)


def test_one_tensor_a_layer_is_kept() -> None:
    """Beside the encoding and the weights, which are there anyway."""
    layers, encoding = random_layers([64] * 4), torch.randn(COUNT, 200, ENCODING, **DOUBLE)
    kept: list[int] = []
    there = {tensor.data_ptr() for tensor in (encoding, *tensors(layers))}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in there:
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(encoding, layers)
    layer = COUNT * 200 * 64
    assert 4 * layer <= sum(kept) <= 4.2 * layer


def test_precision_is_that_of_the_points_under_autocast() -> None:
    layers = [layer.map(torch.Tensor.float) for layer in random_layers([6, 6])]
    encoding = torch.randn(COUNT, 4, ENCODING)
    expected = backbone(encoding, layers), backbone_vjp(encoding, torch.ones(COUNT, 1, 6), layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = backbone(encoding, layers), backbone_vjp(encoding, torch.ones(COUNT, 1, 6), layers)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    half = [layer.map(torch.Tensor.bfloat16) for layer in layers]
    assert backbone(encoding, half).dtype == torch.float32
