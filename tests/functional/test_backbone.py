from __future__ import annotations

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from sdfsrn.functional import backbone as ordinary
from sdfsrn.functional import fused_backbone as fused
from sdfsrn.functional.backbone import BackboneLayer

DOUBLE = {"dtype": torch.double}
COUNT, ENCODING = 3, 5
EACH = pytest.mark.parametrize("widths", [[6], [6, 6, 6], [4, 7, 3]], ids=str)
BOTH = pytest.mark.parametrize("form", [ordinary, fused], ids=["ordinary", "fused"])
TILED = pytest.mark.parametrize(
    ("form", "tile"),
    [(ordinary, None), (fused, 2**13), (fused, 4 * COUNT), (fused, 1)],
    ids=["ordinary", "fused", "fused, tiles of four points", "fused, point by point"],
)


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


def set_tile(tile: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if tile is not None:
        monkeypatch.setattr(fused, "_TILE", tile)


@EACH
@TILED
def test_values_and_gradients_are_those_of_the_literal_network(
    widths: list[int], form: ModuleType, tile: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_tile(tile, monkeypatch)
    layers = random_layers(widths)
    encoding = torch.randn(COUNT, 10, ENCODING, **DOUBLE, requires_grad=True)
    ours, expected = form.backbone(encoding, centered(layers)), literal(encoding, layers)
    assert_same_grads(ours, expected, [encoding, *tensors(layers)])
    with torch.no_grad():
        torch.testing.assert_close(form.backbone(encoding, centered(layers)), expected, rtol=1e-11, atol=1e-11)


@EACH
@TILED
def test_vjp_and_its_gradients_are_those_of_double_backward(
    widths: list[int], form: ModuleType, tile: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_tile(tile, monkeypatch)
    layers = random_layers(widths)
    encoding = torch.randn(COUNT, 10, ENCODING, **DOUBLE, requires_grad=True)
    cotangent = torch.randn(COUNT, 1, widths[-1], **DOUBLE, requires_grad=True)
    feature = literal(encoding, layers)
    (expected,) = torch.autograd.grad(feature, encoding, cotangent.expand_as(feature), create_graph=True)
    ours = form.backbone_vjp(encoding, cotangent, centered(layers))
    assert_same_grads(ours, expected, [encoding, cotangent, *tensors(layers)])


@EACH
def test_fused_and_ordinary_are_the_same(widths: list[int]) -> None:
    layers = random_layers(widths)
    encoding = torch.randn(COUNT, 10, ENCODING, **DOUBLE, requires_grad=True)
    cotangent = torch.randn(COUNT, 1, widths[-1], **DOUBLE, requires_grad=True)
    features = [form.backbone(encoding, centered(layers)) for form in (fused, ordinary)]
    assert_same_grads(*features, [encoding, *tensors(layers)])
    products = [form.backbone_vjp(encoding, cotangent, centered(layers)) for form in (fused, ordinary)]
    assert_same_grads(*products, [encoding, cotangent, *tensors(layers)])


@BOTH
def test_vjp_passes_gradcheck(form: ModuleType) -> None:
    (first, second), cotangent = random_layers([4, 3]), torch.randn(COUNT, 1, 3, **DOUBLE, requires_grad=True)
    encoding = torch.randn(COUNT, 2, ENCODING, **DOUBLE, requires_grad=True)

    def vjp(x: torch.Tensor, v: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return form.backbone_vjp(x, v, centered([BackboneLayer(None, weights[0]), BackboneLayer(*weights[1:])]))

    assert torch.autograd.gradcheck(vjp, (encoding, cotangent, first.encoding_weight, *second))


def test_fused_form_refuses_to_be_differentiated_twice() -> None:
    layers, encoding = random_layers([6, 6]), torch.randn(COUNT, 4, ENCODING, **DOUBLE, requires_grad=True)
    for value in (fused.backbone(encoding, layers), fused.backbone_vjp(encoding, torch.ones(COUNT, 1, 6, **DOUBLE), layers)):
        with pytest.raises(RuntimeError, match=r"Field\.gradient"):
            torch.autograd.grad(value.sum(), encoding, create_graph=True)


def test_ordinary_form_can_be_differentiated_twice() -> None:
    layers, encoding = random_layers([5, 4]), torch.randn(COUNT, 2, ENCODING, **DOUBLE, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: ordinary.backbone(x, layers), (encoding,))


@pytest.mark.parametrize(
    ("form", "function", "tensors_per_layer"),
    [(ordinary, "backbone", 2), (ordinary, "backbone_vjp", 4.125), (fused, "backbone", 1), (fused, "backbone_vjp", 2)],
)
def test_few_tensors_are_kept_for_the_gradient(form: ModuleType, function: str, tensors_per_layer: float) -> None:
    """Beside the encoding and the weights; 4.125: x, the feature, two cotangents and a mask of bytes."""
    layers, encoding = random_layers([64] * 4), torch.randn(COUNT, 200, ENCODING, **DOUBLE)
    cotangent = torch.randn(COUNT, 1, 64, **DOUBLE)
    there = {tensor.data_ptr() for tensor in (encoding, cotangent, *tensors(layers))}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in there:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = form.backbone(encoding, layers) if function == "backbone" else form.backbone_vjp(encoding, cotangent, layers)
    layer = COUNT * 200 * 64 * value.element_size()
    assert 0.9 * tensors_per_layer <= sum(kept.values()) / (len(layers) * layer) <= 1.1 * tensors_per_layer


@BOTH
def test_precision_is_that_of_the_points_under_autocast(form: ModuleType) -> None:
    layers = [layer.map(torch.Tensor.float) for layer in random_layers([6, 6])]
    encoding = torch.randn(COUNT, 4, ENCODING)
    expected = form.backbone(encoding, layers), form.backbone_vjp(encoding, torch.ones(COUNT, 1, 6), layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = form.backbone(encoding, layers), form.backbone_vjp(encoding, torch.ones(COUNT, 1, 6), layers)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    half = [layer.map(torch.Tensor.bfloat16) for layer in layers]
    assert form.backbone(encoding, half).dtype == torch.float32
