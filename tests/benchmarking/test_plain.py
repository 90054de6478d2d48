from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sdfsrn import SDFSRN
from sdfsrn.benchmarking.plain import PlainField, PlainHypernetwork, PlainRayMarcher, plain_chamfer, plain_grid, plain_icp
from sdfsrn.benchmarking.workloads import plain_model
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.functional.isosurface import sdf_grid
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.losses import ColorLoss, EikonalLoss, Objective, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss
from sdfsrn.models import Field, FieldConfig, Hypernetwork, Linear, LSTMRayMarcher
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.structures import Views

SETTINGS = {
    "ShapeNet": (PerspectiveCamera, FieldConfig(width=16, depth=4, num_frequencies=6), (3.0, 1.0, 1.0, 0.1, 0.01)),
    "ShapeNet, ordinary backbone": (
        PerspectiveCamera,
        FieldConfig(width=16, depth=4, num_frequencies=6, backbone="ordinary"),
        (3.0, 1.0, 1.0, 0.1, 0.01),
    ),
    "PASCAL3D+": (OrthographicCamera, FieldConfig(width=12, depth=4, num_frequencies=6), (3.0, 10.0, 1.0, 0.1, 1.0)),
    "released": (
        PerspectiveCamera,
        FieldConfig(width=8, depth=3, num_frequencies=5, frequency_scale=torch.pi),
        (1.0, 1.0, 1.0, 0.1, 0.01),
    ),
    "symmetric": (
        PerspectiveCamera,
        FieldConfig(width=8, depth=2, num_frequencies=2, symmetric=True, color_scale=0.3),
        (1.0,) * 5,
    ),
    "no skip": (OrthographicCamera, FieldConfig(width=8, depth=2, num_frequencies=0, skip=False), (1.0,) * 5),
}


class PixelEncoder(torch.nn.Linear):
    """The mean colour, mapped linearly."""

    latent_dim = 6

    def __init__(self) -> None:
        super().__init__(3, self.latent_dim)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.mean((2, 3)))


def small_model(shape: FieldConfig, weights: tuple[float, ...], plain: bool = False) -> SDFSRN:
    terms = {
        "silhouette": SilhouetteLoss(1.2, 3.8, num_samples=3),
        "color": ColorLoss(),
        "ray_surface": RaySurfaceLoss(balance=True),
        "ray_free": RayFreeLoss(importance=False),
        "eikonal": EikonalLoss(num_points=37),
    }
    return SDFSRN(
        PixelEncoder(),
        (PlainHypernetwork if plain else Hypernetwork)(6, 10, 2, shape),
        (PlainRayMarcher if plain else LSTMRayMarcher)(shape.width, start=1.2, hidden_width=5, num_steps=4, num_bisections=6),
        Objective(terms, dict(zip(terms, weights, strict=True))),
    ).double()


def random_views(camera: type, count: int, rays: int) -> Views:
    double = {"dtype": torch.double}
    pose = look_at_origin(torch.rand(count, **double), torch.rand(count, **double), 2.5)
    distance = 0.02 + 0.3 * torch.rand(count, rays, **double)
    return Views(
        image=2 * torch.rand(count, 3, 4, 4, **double) - 1,
        camera=camera(pose, torch.eye(3, **double).expand(count, 3, 3)),
        uv=0.6 * torch.rand(count, rays, 2, **double) - 0.3,
        color=2 * torch.rand(count, rays, 3, **double) - 1,
        inside=torch.rand(count, rays) > 0.5,
        distance=distance,
        weight=1 / distance,
        inverse_density=0.5 + torch.rand(count, rays, **double),
        hull_depth=torch.full_like(distance, torch.inf),
        points=torch.zeros(count, 0, 3, **double),
        index=torch.arange(count),
        mirrored=torch.zeros_like(torch.arange(count), dtype=torch.bool),
    )


@pytest.mark.parametrize(("camera", "shape", "weights"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize(("count", "rays"), [(2, 17), (3, 40)])
def test_reference_implementation_has_the_same_losses_and_gradients(
    camera: type, shape: FieldConfig, weights: tuple[float, ...], count: int, rays: int
) -> None:
    model, views = small_model(shape, weights), random_views(camera, count, rays)
    _turn_around(model, views)
    reference = small_model(shape, weights, plain=True)
    reference.load_state_dict(model.state_dict())
    found = []
    for variant in (model, reference):
        torch.manual_seed(1)
        torch.set_default_dtype(torch.double)  # of the random draws
        try:
            field = variant(views.image)
            march = variant.render(field, views)
            loss, terms = variant.losses(field, march, views)
        finally:
            torch.set_default_dtype(torch.float)
        loss.backward()
        found.append((march, terms, {name: p.grad for name, p in variant.named_parameters()}))
    (march, terms, grads), (plain_march, plain_terms, plain_grads) = found
    assert isinstance(field, PlainField)
    assert march.hit.any()
    for ours, theirs in zip(march, plain_march, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for name, value in terms.items():
        torch.testing.assert_close(value, plain_terms[name], rtol=1e-9, atol=1e-9)
    assert grads.keys() == plain_grads.keys()
    for name, value in grads.items():
        torch.testing.assert_close(value, plain_grads[name], rtol=1e-9, atol=1e-9 * max(1, float(value.abs().max())), msg=name)


def _turn_around(model: SDFSRN, views: Views) -> None:
    """Shift f so that it changes its sign between the last two points of some rays."""
    with torch.no_grad():
        sdf = model.render(model(views.image), views).visited_sdf
        sign = (sdf[..., -1] - sdf[..., -2]).mean().sign()
        head = model.hypernetwork.branches[-2][-1]
        head.weight *= -sign
        head.bias *= -sign
        head.bias[0] -= model.render(model(views.image), views).visited_sdf[..., -2:].mean()


def test_reference_implementation_refuses_what_the_released_code_lacks() -> None:
    with pytest.raises(ValueError, match="implicit_gradient"):
        PlainRayMarcher(8, start=1.0, implicit_gradient=True)
    with pytest.raises(ValueError, match="raymarcher=lstm"):
        plain_model({"raymarcher": {"_target_": "sdfsrn.models.SphereTracer"}})


def test_reference_of_a_configuration_is_the_plain_model() -> None:
    """What the benchmark times is what `model=plain` trains."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        ours, plain = (compose("train", [f"model={name}", "model/encoder=small"]) for name in ("sdfsrn", "plain"))
    assert plain_model(OmegaConf.to_container(ours.model)) == OmegaConf.to_container(plain.model)
    assert isinstance(instantiate(plain.model)(torch.zeros(1, 3, 64, 64))[:1].detach(), PlainField)


def test_grid_is_the_fast_ones() -> None:
    shape = FieldConfig(width=8, depth=2, num_frequencies=1)
    layers = [Linear(torch.randn(1, 1, o), torch.randn(1, i, o)) for i, o in shape.layers]
    field = Field(layers, shape)
    expected = sdf_grid(lambda x: field.sdf(x[None])[0], 9, -0.5, 0.7)
    torch.testing.assert_close(plain_grid(PlainField(layers, shape), 9, -0.5, 0.7), expected, rtol=1e-4, atol=1e-5)


def test_registration_undoes_a_small_motion_and_distances_are_the_fast_ones() -> None:
    truth = torch.rand(300, 3, dtype=torch.double)
    angle = torch.tensor(0.03, dtype=torch.double)
    turn = torch.linalg.matrix_exp(angle * torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.double))
    moved = truth @ turn.T + 0.01
    torch.testing.assert_close(torch.from_numpy(plain_icp(moved.numpy(), truth.numpy(), 30)), truth, rtol=0, atol=1e-6)
    accuracy, coverage, _ = plain_chamfer(moved.numpy(), truth.numpy())
    expected = [float(value) for value in chamfer_distance(moved, truth)]
    assert [accuracy.mean(), coverage.mean()] == pytest.approx(expected, rel=1e-9)
