"""What a product's precision does to the eikonal loss: tensor cores' roundings, emulated on the CPU, against float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sdfsrn.models import Field, FieldConfig, Hypernetwork

Product = Callable[[Tensor, Tensor], Tensor]


def tf32(x: Tensor) -> Tensor:
    """Rounded to 10 bits of mantissa."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float)


def bf16(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def bf16x3(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(bf16(a), bf16(b)) + (torch.bmm(bf16(a), bf16(b - bf16(b))) + torch.bmm(bf16(a - bf16(a)), bf16(b)))


PRODUCTS: dict[str, Product] = {
    "float32": torch.bmm,
    "bf16x3": bf16x3,
    "tf32": lambda a, b: torch.bmm(tf32(a), tf32(b)),
    "bf16": lambda a, b: torch.bmm(bf16(a), bf16(b)),
}


class Rounded(TorchDispatchMode):
    """Makes batched products by a function."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name == "aten::bmm":
            return self.product(*args)
        if name in ("aten::baddbmm", "aten::baddbmm_"):
            total, a, b = args
            value = total + self.product(a, b)
            return total.copy_(value) if name.endswith("_") else value
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def errors() -> dict[str, tuple[float, float]]:
    """The errors of the loss, and of its gradient for the hypernetwork's output, with the paper's field."""
    torch.manual_seed(0)
    network = Hypernetwork(16, 64, 2, FieldConfig())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    latent, points = torch.randn(2, 16), 2 * torch.rand(2, 500, 3) - 1

    def measured(network: Hypernetwork, dtype: torch.dtype, product: Product) -> tuple[Tensor, Tensor]:
        layers = network.layers(latent.to(dtype))
        with Rounded(product):
            loss = Field(layers, network.field).eikonal_loss(points.to(dtype))
            grads = torch.autograd.grad(loss, [weight for layer in layers[:-1] for weight in layer], materialize_grads=True)
        return loss.detach().double(), torch.cat([grad.double().flatten() for grad in grads])

    truth = measured(copy.deepcopy(network).double(), torch.double, torch.bmm)
    found = {name: measured(network, torch.float, product) for name, product in PRODUCTS.items()}
    return {name: tuple(float((a - b).norm() / b.norm()) for a, b in zip(f, truth, strict=True)) for name, f in found.items()}


@pytest.mark.parametrize(
    ("name", "loss", "gradient"),
    [("float32", 1e-6, 2e-6), ("bf16x3", 2e-4, 5e-3), ("tf32", 2e-4, 3e-2), ("bf16", 1e-2, 1e-1)],
)
def test_errors_are_bounded(
    name: str, loss: float, gradient: float, errors: dict[str, tuple[float, float]], record_property: Callable[[str, Any], None]
) -> None:
    record_property("errors", errors[name])
    assert errors[name][0] < loss
    assert errors[name][1] < gradient


def test_three_products_of_bfloat16_are_between_float32_and_tf32(errors: dict[str, tuple[float, float]]) -> None:
    gradient = {name: error for name, (_, error) in errors.items()}
    assert 10 * gradient["float32"] < gradient["bf16x3"] < gradient["tf32"] / 3 < gradient["bf16"]
