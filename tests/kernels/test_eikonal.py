"""The eikonal kernel against the plain operations, in Triton's interpreter; in a process without checked annotations."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest
import torch

from interpreter import CASES, COMMON, interpreted
from sdfsrn import build
from sdfsrn.kernels import check_kernels
from sdfsrn.models import FieldConfig

SCRIPT = (
    COMMON
    + """
from sdfsrn.kernels.eikonal import eikonal_loss
from sdfsrn.kernels.layers import pack
from sdfsrn.losses import EikonalLoss

def loss_and_gradients(network, latent, loss):
    network.zero_grad()
    value = loss(network(latent))
    value.backward()
    return [value.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None and p.grad.any())]

result = {}
for name, (settings, objects, points) in json.load(sys.stdin).items():
    network = network_of(settings)
    latent, uniform = torch.randn(objects, 4), torch.rand(objects, points, 3)
    term = EikonalLoss(num_points=points)
    whole = lambda shape: term(shape, None, None, uniform.to(shape.sdf_head.bias.dtype))
    split = lambda shape: eikonal_loss(shape._encode(2 * uniform - 1), shape.sdf_head.weight, pack(shape.backbone),
                                       network.field.frequency_scale, tile=16, programs=2)
    plain = loss_and_gradients(network, latent, whole)
    network.field = dataclasses.replace(network.field, kernel="triton")
    kernel, again, tiled = (loss_and_gradients(network, latent, loss) for loss in (whole, whole, split))
    network.field = dataclasses.replace(network.field, kernel="plain")
    truth = loss_and_gradients(network.double(), latent.double(), whole)
    result[name] = {"plain": errors(plain, truth), "kernel": errors(kernel, truth), "tiled": errors(tiled, truth),
                    "same": all(torch.equal(a, b) for a, b in zip(kernel, again)), "term": bool(kernel[0] != 0)}
print(json.dumps(result))
"""
)


@pytest.fixture(scope="module")
def found() -> dict:
    return interpreted(SCRIPT, CASES)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_of_all_weights_are_the_plain_ones(case: str, found: dict) -> None:
    """To a few times the rounding error of the plain operations, both measured against float64."""
    allowed = 4 * max(found[case]["plain"]) + 1e-6
    assert max(found[case]["kernel"]) < allowed
    assert max(found[case]["tiled"]) < allowed
    assert max(found[case]["plain"]) < 1e-4
    assert found[case]["term"]


@pytest.mark.parametrize("case", CASES)
def test_the_same_call_gives_the_same_numbers(case: str, found: dict) -> None:
    assert found[case]["same"]


def test_a_kernel_without_a_device_is_refused_before_training(tmp_path: pathlib.Path) -> None:
    model, datamodule, trainer = build(
        "quickstart", "model.hypernetwork.field.kernel=triton", "trainer=cpu", "data.num_objects=2", "data.num_eval_objects=2",
        "data.shapes.image_size=24", "data.shapes.views_per_object=8", f"paths.output={tmp_path}",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"a CUDA device \(trainer\.accelerator=gpu\), got cpu, .* kernel=plain there"):
        trainer.fit(model, datamodule=datamodule)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_kernels(torch.device("cuda"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the package triton"):
        check_kernels(torch.device("cuda"))


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="got cutlass"):
        FieldConfig(kernel="cutlass")


def test_without_a_device_the_loss_is_the_plain_one() -> None:
    """A model that was trained with a kernel works there as well."""
    from sdfsrn.models import Hypernetwork

    values = []
    for kernel in ("plain", "triton"):
        torch.manual_seed(0)
        field = Hypernetwork(4, 8, 1, FieldConfig(width=8, kernel=kernel))(torch.ones(1, 4))
        values.append(field.eikonal_loss(torch.linspace(-1, 1, 30).view(1, 10, 3)))
    assert torch.equal(*values)
