"""The kernels of the backbone's feature and its gradient against the plain operations, in Triton's interpreter."""

from __future__ import annotations

import pytest

from interpreter import CASES, COMMON, interpreted

FEATURES = (
    COMMON
    + """
from sdfsrn.kernels.backbone import backbone

result = {}
for name, (settings, objects, points) in json.load(sys.stdin).items():
    network = network_of(settings)
    latent, places = torch.randn(objects, 4), 2 * torch.rand(objects, points, 3) - 1
    mix = torch.randn(objects, points, settings["width"])

    def whole(field, x):
        return field(x)

    def values(dtype, evaluate=whole, **changes):
        net = Hypernetwork(4, 8, 1, dataclasses.replace(network.field, **changes)).to(dtype)
        net.load_state_dict(network.state_dict())
        x = places.to(dtype, copy=True).requires_grad_()
        field = net(latent.to(dtype))
        sdf, feature = evaluate(field, x)
        (sdf.square().mean() + (mix.to(dtype) * feature).mean()).backward()
        with torch.no_grad():
            alone = field.sdf(x)
        assert evaluate is tiled or torch.allclose(alone, sdf.detach(), atol=1e-6)
        grads = [p.grad for p in net.parameters() if p.grad is not None and p.grad.any()]
        return [sdf.detach(), feature.detach(), x.grad, *grads]

    def tiled(field, x):
        feature = backbone(field._encode(x), field._packed, tile=16, programs=2)
        return field.sdf_head(feature).squeeze(-1), feature

    truth, plain = values(torch.double, kernel="plain"), values(torch.float, kernel="plain")
    kernel, again, split = (values(torch.float, *how, kernel="triton") for how in ((whole,), (whole,), (tiled,)))
    result[name] = {"plain": errors(plain, truth), "kernel": errors(kernel, truth), "tiled": errors(split, truth),
                    "same": all(torch.equal(a, b) for a, b in zip(kernel, again))}
print(json.dumps(result))
"""
)
STEPS = (
    COMMON
    + """
from sdfsrn.functional.camera import Rays
from sdfsrn.losses import EikonalLoss
from sdfsrn.models import DenseRayMarcher, LSTMRayMarcher

result = {}
for name in json.load(sys.stdin):
    network = network_of({"width": 16})
    torch.manual_seed(1)
    marcher = {
        "lstm": lambda: LSTMRayMarcher(16, 0.5, num_steps=4, num_bisections=4),
        "implicit": lambda: LSTMRayMarcher(16, 0.5, num_steps=4, num_bisections=4, implicit_gradient=True),
        "dense": lambda: DenseRayMarcher(0.5, 1.5, 8),
    }[name]()
    origin, direction = torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.0, 0.0, 1.0])
    direction = direction + 0.2 * torch.randn(2, 30, 3) * torch.tensor([1.0, 1.0, 0.0])
    latent = torch.randn(2, 4)

    def values(kernel, dtype):
        network.field = dataclasses.replace(network.field, kernel=kernel)
        network.to(dtype), marcher.to(dtype)
        torch.manual_seed(2)
        rays = Rays(origin.expand_as(direction).to(dtype), direction.to(dtype))
        field = network(latent.to(dtype))
        field.sdf_head = field.sdf_head._replace(bias=field.sdf_head.bias - 0.5 * field.sdf(rays.at(torch.ones(2, 30))).mean())
        march = marcher(field, rays)
        loss = march.color.square().mean() + march.visited_sdf.abs().mean() + 0.1 * march.depth.mean()
        parameters = [*network.parameters(), *marcher.parameters()]
        grads = torch.autograd.grad(loss, parameters, materialize_grads=True)
        flat = torch.cat([g.flatten() for g in grads])
        return [march.depth.detach(), march.visited_sdf.detach(), march.color.detach(), flat], int(march.hit.sum())

    (kernel, hits), (plain, _) = values("triton", torch.float), values("plain", torch.float)
    result[name] = {"errors": errors(kernel, [value.double() for value in plain]), "hits": hits}
print(json.dumps(result))
"""
)


@pytest.fixture(scope="module")
def found() -> dict:
    return interpreted(FEATURES, CASES)


@pytest.mark.parametrize("case", CASES)
def test_features_and_gradients_of_points_and_weights_are_the_plain_ones(case: str, found: dict) -> None:
    """To a few times the rounding error of the plain operations, both measured against float64."""
    allowed = 4 * max(found[case]["plain"]) + 1e-6
    assert max(found[case]["kernel"]) < allowed
    assert max(found[case]["tiled"]) < allowed
    assert max(found[case]["plain"]) < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_the_same_call_gives_the_same_numbers(case: str, found: dict) -> None:
    assert found[case]["same"]


@pytest.mark.slow
def test_marchers_march_as_with_plain_operations() -> None:
    found = interpreted(STEPS, dict.fromkeys(["lstm", "implicit", "dense"]))
    for name, values in found.items():
        assert values["hits"] >= 5, name
        assert max(values["errors"]) < 2e-5, (name, values)
