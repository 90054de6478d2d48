"""Everything recorded from DVR's released code is reproduced from its checkpoint, in float64.

Reads every .npz in the folder named by SDFSRN_REFERENCE_DVR, with the .ckpt of the same name; its README.md explains them.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdfsrn import DVR, Rays
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.functional.hull import cube_interval
from sdfsrn.losses import (
    FreespaceLoss,
    NormalSmoothnessLoss,
    Objective,
    OccupancyLoss,
    PhotometricLoss,
    SurfaceDepthLoss,
)
from sdfsrn.losses.dvr import random_depth, unit_normals
from sdfsrn.models import OccupancyDecoder, OccupancyMarcher, ResNetEncoder
from sdfsrn.structures import OccupancyMarch, Views

ROOT = pathlib.Path(__file__).parents[2]
REFERENCE = pathlib.Path(os.environ.get("SDFSRN_REFERENCE_DVR", ROOT.parent / "shared" / "reference_dvr"))
RECORDINGS = sorted(path.stem for path in REFERENCE.glob("*.npz"))
STEPS = (16, 32, 64, 128)
CASES = ("free", "hull", "depth")
TOLERANCE = 1e-9

pytestmark = pytest.mark.skipif(
    not RECORDINGS, reason=f"NO PARITY CHECKED: no recordings in {REFERENCE}, set SDFSRN_REFERENCE_DVR to their folder"
)


def our_name(name: str) -> str:
    """A parameter of the released code, in our decoder or encoder."""
    for theirs, ours in {
        "decoder.fc_p": "point",
        "decoder.fc_c": "shift",
        "decoder.fc_out": "head",
        "encoder.features": "network",
        "encoder.fc": "network.fc",
    }.items():
        name = name.replace(theirs, ours)
    parts = name.split(".")
    if parts[:2] == ["decoder", "blocks"]:
        parts = [{"fc_0": "hidden", "fc_1": "residual"}[parts[3]], parts[2], parts[4]]
    return ("encoder." if parts[0] == "network" else "hypernetwork.") + ".".join(parts)


class GivenCamera(PerspectiveCamera):
    """Rays as the released code makes them: by the inverse of matrices that float32 has rounded, no exact rotations."""

    def rays(self, uv: Tensor) -> Rays:
        inverse = torch.linalg.inv(self.world_to_camera[..., :3])
        center = -(inverse @ self.world_to_camera[..., 3:]).mT
        direction = torch.cat([uv, torch.ones_like(uv[..., :1])], -1) @ inverse.mT
        return Rays(center.expand_as(direction), direction)


class Recording:
    """One recording: the released code's inputs and outputs, and our model with its weights."""

    def __init__(self, name: str) -> None:
        data = {k: torch.from_numpy(v) for k, v in np.load(REFERENCE / f"{name}.npz", allow_pickle=False).items()}
        self.data = {name: value.double() if value.is_floating_point() else value for name, value in data.items()}
        self.names = set(data)
        self.seen: set[str] = set()
        state = torch.load(REFERENCE / f"{name}.ckpt", weights_only=True)
        latent_dim, width = state["encoder.fc.weight"].shape[0], state["decoder.fc_p.weight"].shape[0]
        decoder = OccupancyDecoder(latent_dim, width, num_blocks=sum(".fc_c." in name for name in state) // 2)
        objective = Objective({"rgb": PhotometricLoss()}, {"rgb": 1.0})
        marcher = OccupancyMarcher(search_missed=True)
        self.model = DVR(ResNetEncoder(latent_dim, weights=None), decoder, marcher, objective)
        self.model.load_state_dict({our_name(name): value for name, value in state.items()})
        self.model.double().eval()
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.double)[..., None, None]
        self.model.encoder.mean, self.model.encoder.std = 2 * mean - 1, 2 * std  # which float32 had rounded

    def __getitem__(self, name: str) -> Tensor:
        """A recorded array, which counts as compared."""
        self.seen.add(name)
        return self.data[name]

    @property
    def image(self) -> Tensor:
        return 2 * self["image"] - 1

    @property
    def camera(self) -> GivenCamera:
        return GivenCamera(self["world_mat"][:, :3], self["camera_mat"][:, :3, :3])

    def views(self, screen: Tensor) -> Views:
        """All that is known of points of the screen; colours and masks are the loss's."""
        b, r = screen.shape[:2]
        one = torch.ones(b, r, dtype=torch.double)
        return Views(
            image=self.image,
            camera=self.camera,
            uv=self.camera.image_plane(screen),
            color=2 * self["loss_rgb_gt"] - 1 if r == self["loss_rgb_gt"].shape[1] else torch.zeros(b, r, 3).double(),
            inside=self["loss_mask_gt"] if r == self["loss_mask_gt"].shape[1] else one > 0,
            distance=one,
            weight=one,
            inverse_density=one,
            hull_depth=self["loss_depth_gt"] if r == self["loss_depth_gt"].shape[1] else torch.full_like(one, torch.inf),
            points=torch.zeros(b, 0, 3).double(),
            index=torch.arange(b),
            mirrored=torch.zeros_like(torch.arange(b), dtype=torch.bool),
        )

    def march(self, screen: Tensor, steps: int = 16, **settings: object) -> OccupancyMarch:
        """The rays through points of the screen, with the decoder's recorded latent code."""
        marcher = OccupancyMarcher(num_test_samples=steps, search_missed=True, **settings).eval()
        rays = self.camera.rays(self.camera.image_plane(screen))
        return marcher(self.model.decode(self["latent_eval"]), rays)


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param)


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    """Equal, relative to the array's largest number; infinite and NaN in the same places."""
    finite = torch.isfinite(theirs)
    assert torch.equal(torch.isfinite(ours), finite)
    ours, theirs = ours[finite], theirs[finite]
    if len(theirs):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_latent_codes(recording: Recording) -> None:
    model = recording.model
    assert_same(model.encode(recording.image), recording["latent_eval"])
    model.encoder.resize = 224
    assert_same(model.encode(recording.image), recording["latent_eval_224"])
    model.encoder.resize = None
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert_same(model.train().encode(recording.image), recording["latent_train"])
    model.load_state_dict(state)
    model.eval()


def test_decoder(recording: Recording) -> None:
    field = recording.model.decode(recording["latent_eval"])
    sdf, feature = field(recording["points"])
    rgb = (field.color(feature) + 1) / 2
    assert_same(-sdf, recording["points_logit"])
    assert_same(rgb, recording["points_rgb"])
    assert_same(torch.cat([-sdf[..., None], feature], -1), recording["points_raw"])


def test_rays(recording: Recording) -> None:
    rays = recording.camera.rays(recording.camera.image_plane(recording["ray_pixels"]))
    assert_same(rays.origin, recording["ray_origin"])
    assert_same(rays.direction, recording["ray_direction"])
    near, far = cube_interval(rays, 0.55)
    meets = near < far
    assert torch.equal(meets, recording["ray_meets_cube"])
    assert_same(torch.stack([near, far], -1) * meets[..., None], recording["ray_cube_interval"])


@pytest.mark.parametrize("steps", STEPS)
def test_depths(recording: Recording, steps: int) -> None:
    with torch.no_grad():
        march = recording.march(recording["ray_pixels"], steps)
        field = recording.model.decode(recording["latent_eval"])
    assert torch.equal(march.surface, recording[f"surface_{steps}"])
    assert torch.equal(march.predicted, recording[f"mask_pred_{steps}"])
    assert_same(march.depth, recording[f"depth_{steps}"])
    rays = Rays(recording["ray_origin"], recording["ray_direction"])
    points = rays.at(torch.where(march.predicted, march.depth, 1.0))
    assert_same(points, recording[f"world_point_{steps}"])
    residual = torch.where(march.surface, -field.sdf(points), 0.0)
    assert (residual - recording[f"residual_{steps}"]).abs().max() < TOLERANCE
    if f"depth_slope_{steps}" in recording.names:
        slope = -(field.gradient(points) * rays.direction).sum(-1)
        assert_same(torch.where(march.surface, slope, 0.0), recording[f"depth_slope_{steps}"])


def test_other_searches(recording: Recording) -> None:
    """Halvings in place of secants, and [0, 5] in place of a cube, by one that all rays miss."""
    with torch.no_grad():
        halved = recording.march(recording["ray_pixels"], refinement="bisection")
        whole = recording.march(recording["ray_pixels"], 64, extent=1e-9)
    assert_same(halved.depth, recording["depth_bisection_16"])
    assert_same(whole.depth, recording["depth_nocube_64"])


def test_depth_at_another_bias(recording: Recording) -> None:
    bias = recording.model.hypernetwork.head.bias
    for name, change in (("up", 1e-5), ("down", -1e-5)):
        with torch.no_grad():
            bias[0] += change
            assert_same(recording.march(recording["ray_pixels"], 128).depth, recording[f"depth_128_bias_{name}"])
            bias[0] -= change


def check_gradients(recording: Recording, prefix: str, network: str = "") -> None:
    """Compare all gradients whose recorded name begins with `prefix`, and their norms."""
    gradients = {name: parameter.grad for name, parameter in recording.model.named_parameters()}
    for name in sorted(recording.names):
        for kind in ("grad_", "gradnorm_"):
            if name.startswith(prefix + kind) and name != "depth_grad_latent":
                ours = gradients[our_name(network + name.removeprefix(prefix + kind))]
                assert_same(ours if kind == "grad_" else ours.norm(), recording[name])


def test_gradient_of_depth(recording: Recording) -> None:
    model = recording.model
    model.zero_grad()
    latent = recording["latent_eval"].clone().requires_grad_()
    rays = recording.camera.rays(recording.camera.image_plane(recording["ray_pixels"]))
    march = OccupancyMarcher(num_test_samples=16, search_missed=True).eval()(model.decode(latent), rays)
    (recording["depth_cotangent"] * march.depth)[recording["surface_16"]].sum().backward()
    assert_same(latent.grad, recording["depth_grad_latent"])
    check_gradients(recording, "depth_", "decoder.")


def nearest_pixel(screen: Tensor, image: Tensor) -> Tensor:
    """Values (b, c, h, w) of the nearest pixels, in the convention of outer corners at +-1, outside of it 0; (b, c, r)."""
    return F.grid_sample(image, screen[:, None], mode="nearest", padding_mode="zeros", align_corners=False)[:, :, 0]


def test_points_of_the_losses(recording: Recording) -> None:
    """What the losses look at: pixels, predictions, random points."""
    screen, rays = recording["loss_pixels"], recording.camera.rays(recording.camera.image_plane(recording["loss_pixels"]))
    mask = nearest_pixel(screen, recording["mask"][:, None].double())[:, 0] > 0.5
    assert torch.equal(mask, recording["loss_mask_gt"])
    with torch.no_grad():
        march, field = recording.march(screen), recording.model.decode(recording["latent_eval"])
    assert_same(march.depth, recording["loss_found_depth"])
    assert torch.equal(march.predicted, recording["loss_mask_pred"])
    assert_same((march.color + 1) / 2, recording["loss_rgb_pred"])
    points = rays.at(torch.where(march.predicted, march.depth, 1.0))
    assert_same(points, recording["loss_world_point"])
    for half, term in ((0.55, "freespace"), (0.5, "occupancy")):
        near, far = cube_interval(rays, half)
        assert torch.equal(near < far, recording[f"loss_{term}_meets_cube"])
    free = rays.at(random_depth(rays, 0.55, recording["loss_freespace_uniform"]))
    assert_same(free, recording["loss_freespace_points"])
    used = torch.where(march.predicted[..., None], points, free)
    assert_same(-field.sdf(used), recording["loss_freespace_logit"])
    random = random_depth(rays, 0.5, recording["loss_occupancy_uniform"])
    hull = recording["loss_depth_gt"]
    for case in CASES:
        occupied = rays.at(random if case == "free" else torch.where(hull.isfinite(), hull, random))
        assert_same(occupied, recording[f"loss_{case}_occupancy_points"])
        assert_same(-field.sdf(occupied), recording[f"loss_{case}_occupancy_logit"])


def test_normals(recording: Recording) -> None:
    field = recording.model.decode(recording["latent_eval"])
    points = recording["loss_world_point"][recording["loss_mask_pred"]]
    neighbours = points + (recording["loss_neighbour_uniform"] - 0.5) * 1e-3
    per_object = recording["loss_mask_pred"].sum(-1).tolist()
    for name, places in (("", points), ("_neighbour", neighbours)):
        parts = [-unit_normals(field[i : i + 1], part[None], 1e-3)[0] for i, part in enumerate(places.split(per_object))]
        assert_same(torch.cat(parts), recording[f"loss_normal{name}"])


@pytest.mark.parametrize("case", CASES)
def test_losses(recording: Recording, case: str) -> None:
    """Every term, the sum, its gradients in all parameters that were recorded, and how far masks agree."""
    model = recording.model
    model.zero_grad()
    views = recording.views(recording["loss_pixels"])
    rays = views.camera.rays(views.uv)
    shape = model(views.image)
    march = OccupancyMarcher(num_test_samples=16, search_missed=True).eval()(shape, rays)
    dense = torch.zeros(*views.inside.shape, 3, dtype=torch.double)
    dense[march.predicted] = recording["loss_neighbour_uniform"]
    terms = {
        "rgb": (PhotometricLoss(), 1.0, ()),
        "freespace": (FreespaceLoss(), 1.0, (recording["loss_freespace_uniform"],)),
        "occupancy": (OccupancyLoss(hull=case != "free"), 1.0, (recording["loss_occupancy_uniform"],)),
        "normal": (NormalSmoothnessLoss(), 0.05, (dense,)),
        **({"depth": (SurfaceDepthLoss(), 10.0, ())} if case == "depth" else {}),
    }
    values = {name: weight * term(shape, march, views, *draws) for name, (term, weight, draws) in terms.items()}
    for name, value in values.items():
        assert_same(value, recording[f"loss_{case}_{name}"])
    total = sum(values.values())
    assert_same(total, recording[f"loss_{case}_total"])
    total.backward()
    check_gradients(recording, f"loss_{case}_")
    truth = views.inside
    agreement = (march.predicted == truth).double().mean()
    iou = ((march.predicted & truth).sum(-1) / (march.predicted | truth).sum(-1)).mean()  # in float32, as theirs
    assert_same(agreement, recording[f"loss_{case}_mask_intersection"])
    assert_same(iou, recording[f"loss_{case}_mask_iou"])


def test_every_array_was_compared(recording: Recording) -> None:
    """Runs last; `hull_depth` is the map that `loss_depth_gt` was read from."""
    depth = nearest_pixel(recording["loss_pixels"], recording["hull_depth"][:, None])[:, 0]
    assert_same(depth, recording["loss_depth_gt"])
    image = nearest_pixel(recording["loss_pixels"], recording["image"]).mT
    assert_same(image, recording["loss_rgb_gt"])
    assert recording.seen == recording.names
