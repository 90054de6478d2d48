from __future__ import annotations

import csv
import itertools
import math
import os
import pathlib
import signal

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import sdfsrn
from scenes import scene
from sdfsrn.data.conventions import rotation_from_angles
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin, pixel_centers
from sdfsrn.functional.rotation import geodesic_angle
from sdfsrn.losses import ColorLoss, Objective, RaySurfaceLoss, SilhouetteLoss
from sdfsrn.metrics.pose import PoseError
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models import (
    ConvEncoder,
    DenseRayMarcher,
    FieldConfig,
    Hypernetwork,
    ImplicitShape,
    PoseCandidates,
)
from sdfsrn.models.pose_candidates import ALL, Candidates, candidate_rays, disagreement, draw, fit
from sdfsrn.runtime.configs import config_folder
from sdfsrn.structures import Views
from sdfsrn.system import SDFSRN
from sdfsrn.train import train
from tiny import MODEL, PICTURES

KINDS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
SIDE = 16


class Stop(pl.Callback):
    """Ends the training as a signal does, while a step runs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


class Analytic(ImplicitShape):
    """The scene, whose colours depend on the place; each object of a batch is the same."""

    device = torch.device("cpu")

    def __getitem__(self, objects: slice) -> Analytic:
        return self

    def detach(self) -> Analytic:
        return self

    def sdf(self, points: Tensor) -> Tensor:
        return scene(points)

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return scene(points), points

    def color(self, feature: Tensor) -> Tensor:
        return torch.sin(3 * feature)


class Known:
    """A model that gives the scene for each picture, and has nothing to learn."""

    whole_pictures = False

    def __call__(self, image: Tensor) -> Analytic:
        return Analytic()

    def compare(self, shape: Analytic, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        return views.uv.new_zeros(()), {}


class Ball(Analytic):
    """A white ball: no pose looks otherwise."""

    def sdf(self, points: Tensor) -> Tensor:
        return points.norm(dim=-1) - 0.4

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.sdf(points), points

    def color(self, feature: Tensor) -> Tensor:
        return torch.ones_like(feature)


def make_views(azimuth: Tensor, kind: type = PerspectiveCamera, elevation: float = 20.0) -> Views:
    """All pixels of pictures of the scene, float64: what is seen, and the silhouettes, from its own signed distances."""
    count = len(azimuth)
    pose = look_at_origin(azimuth, torch.full_like(azimuth, math.radians(elevation)), 2.7)
    lens = torch.diag(torch.tensor([3.7, 3.7, 1.0] if kind is PerspectiveCamera else [1.4, 1.4, 1.0]).double())
    camera = kind(pose, lens.repeat(count, 1, 1))
    uv = camera.image_plane(pixel_centers(SIDE, SIDE, dtype=torch.double).expand(count, -1, -1))
    depths = torch.linspace(1.9, 3.5, 60, dtype=torch.double).expand(count, uv.shape[1], 60)
    sdf = scene(camera.rays(uv).at(depths).flatten(1, 2)).view_as(depths)
    inside, first = (sdf < 0).any(-1), (sdf < 0).double().argmax(-1, keepdim=True)
    color = Analytic().color(camera.rays(uv).at(depths.gather(-1, first)[..., 0]))
    color = torch.where(inside[..., None], color, 1.0)
    one = torch.ones_like(uv[..., 0])
    return Views(
        image=color.mT.unflatten(-1, (SIDE, SIDE)),
        camera=camera,
        uv=uv,
        color=color,
        inside=inside,
        distance=0.1 * one,
        weight=one,
        inverse_density=one + torch.rand_like(one),
        hull_depth=one * math.inf,
        points=uv.new_zeros(count, 0, 3),
        index=torch.arange(count),
        mirrored=torch.zeros(count, dtype=torch.bool),
    )


def circle(count: int, start: float = 0.2) -> Tensor:
    return torch.arange(count, dtype=torch.double) * 2 * math.pi / count + start


def candidates(**options) -> PoseCandidates:
    return PoseCandidates(ConvEncoder(8, (4, 8)), 1.9, 3.5, **options).double()


def some_candidates(count: int, number: int = 5) -> Candidates:
    azimuth, elevation, theta, logit = torch.randn(4, count, number, dtype=torch.double)
    return Candidates(3 * azimuth, 0.4 * elevation, theta, logit.softmax(-1))


def model_with(pose: PoseCandidates) -> SDFSRN:
    terms = {"silhouette": SilhouetteLoss(1.9, 3.5), "color": ColorLoss(), "surface": RaySurfaceLoss()}
    hypernetwork = Hypernetwork(12, 16, 1, FieldConfig(width=16, depth=2, num_frequencies=2))
    losses = Objective(terms, dict.fromkeys(terms, 1.0))
    return SDFSRN(ConvEncoder(12, (4,)), hypernetwork, DenseRayMarcher(1.9, 3.5, 8), losses, pose=pose).double()


def test_rotations_are_those_of_the_conventions() -> None:
    """Against `look_at_origin` without a turn, and scipy's Euler angles with one."""
    found = some_candidates(3)
    rotations = found.rotations()
    for angles, rotation in zip(torch.stack(found[:3], -1).flatten(0, 1), rotations.flatten(0, 1), strict=True):
        expected = rotation_from_angles(*np.degrees(angles.numpy()), "nmr")
        np.testing.assert_allclose(rotation.numpy(), expected, atol=1e-12)
    level = found._replace(theta=torch.zeros_like(found.theta)).rotations()
    expected = look_at_origin(found.azimuth[0], found.elevation[0], 2.0)[..., :3]
    torch.testing.assert_close(level[0], expected, rtol=0, atol=1e-15)


def test_mirrored_candidates_are_those_of_the_mirrored_cameras() -> None:
    found = some_candidates(2, 6)
    camera = PerspectiveCamera(F.pad(found.rotations().flatten(0, 1), (0, 1)), torch.eye(3).double().repeat(12, 1, 1))
    expected = camera.mirrored().world_to_camera[..., :3].unflatten(0, (2, 6))
    bins = [0, 5, 4, 3, 2, 1]  # of 60 degrees: that of azimuth a becomes that of -a
    torch.testing.assert_close(found.mirrored().rotations(), expected[:, bins], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.mirrored().probability, found.probability[:, bins], rtol=0, atol=0)
    for twice, once in zip(found.mirrored().mirrored(), found, strict=True):
        torch.testing.assert_close(twice, once, rtol=0, atol=0)


def test_proposals_stay_in_their_bins_and_ranges() -> None:
    pose, views = candidates(elevation=[10, 40], theta=15), make_views(circle(4))
    with torch.no_grad():
        pose.head.weight.normal_(std=30)
    found = pose.propose(torch.randn_like(views.image), views)
    centers = torch.arange(6) * 60.0
    assert ((found.azimuth.rad2deg() - centers).abs() <= 30 + 1e-9).all()
    assert ((found.azimuth.rad2deg() - centers).abs() > 20).any()
    assert found.elevation.rad2deg().min() >= 10
    assert found.elevation.rad2deg().max() <= 40
    assert found.theta.rad2deg().abs().max() <= 15
    torch.testing.assert_close(found.probability.sum(-1), torch.ones(4).double())


@KINDS
def test_the_given_elevation_is_that_of_the_camera(kind: type) -> None:
    views = make_views(circle(3), kind, elevation=25.0)
    found = candidates().propose(views.image, views)
    torch.testing.assert_close(found.elevation.rad2deg(), torch.full((3, 6), 25.0).double())
    assert not found.theta.any()


def azimuths_changed(views: Views) -> Views:
    """The cameras of other azimuths: worlds turned about y, whose axis a matrix without rounding keeps."""
    cos, sin = (
        torch.linspace(-2, 2, len(views.uv), dtype=torch.double).cos(),
        torch.linspace(-2, 2, len(views.uv)).double().sin(),
    )
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).unflatten(-1, (3, 3))
    pose = views.camera.world_to_camera
    return views._replace(camera=views.camera._replace(world_to_camera=torch.cat([pose[..., :3] @ turn, pose[..., 3:]], -1)))


@KINDS
def test_annotated_azimuths_are_never_read(kind: type) -> None:
    """Bit for bit: the loss, its terms, all gradients, and the poses that are estimated."""
    model, views = model_with(candidates(mirror=True)), make_views(circle(4), kind)
    model.pose.schedule(1.0)

    def result(views: Views) -> list[Tensor]:
        torch.manual_seed(3)
        model.zero_grad()
        loss, terms = model.step(views)
        loss.backward()
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return [loss, *terms.values(), *grads, model.pose.estimate(views).camera.world_to_camera]

    model.eval()  # running means of the encoders stay
    changed = azimuths_changed(views)
    assert (changed.camera.world_to_camera - views.camera.world_to_camera).abs().max() > 0.5
    for found, expected in zip(result(changed), result(views), strict=True):
        assert torch.equal(found, expected)


def test_validation_looks_from_estimated_poses_and_measures_those_of_known_shapes() -> None:
    model, views = model_with(candidates()).eval().float(), make_views(circle(4))
    model.validation = EvaluationProtocol(resolution=8, num_points=50)
    views = views._replace(points=torch.full((4, 20, 3), math.nan, dtype=torch.double), index=torch.tensor([0, 1, 2, -1]))
    views.points[1:] = torch.rand(3, 20, 3)
    found = []
    for each in (views, azimuths_changed(views)):
        single = tree_map(lambda value: value.float() if value.is_floating_point() else value, each)
        model.validation_step(single, 0)
        assert len(model.pose_error.true) == 2  # one has no known shape, one is not to be counted
        error = model.pose_error.compute()
        found.append((model.iou.compute(), torch.cat(model.pose_error.estimated), error["raw_mean"]))
        model.iou.reset()
        model.pose_error.reset()
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    for (_, estimated, mean), each in zip(found, (views, azimuths_changed(views)), strict=True):  # against what is annotated
        expected = geodesic_angle(estimated, each.camera.world_to_camera[1:3, :, :3]).mean()
        torch.testing.assert_close(mean, expected, rtol=1e-5, atol=0)


def test_each_loss_has_gradients_in_its_own_part_alone() -> None:
    model, views = model_with(candidates(mirror=True)), make_views(circle(4))
    model.pose.schedule(1.0)
    loss, terms = model.step(views)
    names, parameters = zip(*model.named_parameters(), strict=True)
    weights = {"pose": 1.0, "pose_probability": 0.1, "pose_mirror": 0.1}
    network = sum(weight * terms[name] for name, weight in weights.items())
    for value, of_poses in ((network, True), (loss - network, False)):
        grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        reached = {name for name, grad in zip(names, grads, strict=True) if grad is not None and grad.abs().max() > 1e-12}
        assert reached
        assert all(name.startswith("pose.") == of_poses for name in reached)
        part = {name for name in names if name.startswith("pose.") == of_poses and "raymarcher" not in name}
        assert len(reached) > 0.8 * len(part)  # but for biases before normalizations, and angles that are given
    for name in ("encoder.network.0.0.weight", "pose.encoder.network.0.0.weight", "pose.head.weight"):
        assert name in names


@KINDS
def test_candidates_side_by_side_equal_one_after_the_other(kind: type) -> None:
    pose, views = candidates(num_rays=SIDE**2, num_samples=7).eval(), make_views(circle(3), kind)
    found = some_candidates(3, 5)
    together = pose.errors(Analytic(), views, found)
    for k in range(5):
        alone = pose.errors(Analytic(), views, Candidates(*(value[:, k : k + 1] for value in found)))
        torch.testing.assert_close(alone[:, 0], together[:, k], rtol=0, atol=1e-12)
        pose_matrix = torch.cat([found.rotations()[:, k], views.camera.world_to_camera[..., 3:]], -1)
        expected = views.camera._replace(world_to_camera=pose_matrix).rays(views.uv)
        rays = candidate_rays(views, found.rotations())
        for side_by_side, one in zip(rays, expected, strict=True):
            torch.testing.assert_close(side_by_side.unflatten(1, (5, -1))[:, k], one, rtol=0, atol=1e-12)


def test_the_error_is_that_of_soft_silhouettes_and_colours() -> None:
    """Against a loop over rays with a fine search, where samples are dense; and 0.25 at an outline that lies on the ray."""
    pose = candidates(num_rays=SIDE**2, num_samples=400, softness=0.1, weights={"color": 0.7}).eval()
    views = make_views(circle(2))
    found = some_candidates(2, 2)
    errors = pose.errors(Analytic(), views, found)
    depth = torch.linspace(1.9, 3.5, 3000, dtype=torch.double)
    for b, k in itertools.product(range(2), range(2)):
        camera = PerspectiveCamera(
            torch.cat([found.rotations()[b, k], views.camera.world_to_camera[b, :, 3:]], -1)[None],
            views.camera.intrinsics[b : b + 1],
        )
        points = camera.rays(views.uv[b : b + 1]).at(depth.expand(1, SIDE**2, -1))[0]
        sdf = scene(points)
        covered = torch.sigmoid(-sdf.amin(-1) / 0.1)
        hit = (sdf < 0).any(-1)
        surface = points[torch.arange(len(points)), (sdf < 0).double().argmax(-1)]
        color = (Analytic().color(surface) - views.color[b]).square().mean(-1) * hit * views.inside[b]
        error = (covered - views.inside[b].double()).square() + 0.7 * color
        expected = (views.inverse_density[b] * error).sum() / views.inverse_density[b].sum()
        torch.testing.assert_close(errors[b, k], expected, rtol=0.01, atol=0)


def test_errors_of_a_ball_are_the_same_for_all_candidates() -> None:
    """In training as well: random depths are those of a ray, under all of its candidates."""
    errors = candidates(num_samples=6).errors(Ball(), make_views(circle(3)), some_candidates(3))
    torch.testing.assert_close(errors, errors[:, :1].expand_as(errors), rtol=0, atol=1e-12)


def test_how_well_candidates_fit() -> None:
    """The better, the more probable; as sharp for small differences as for large ones; and no candidate is all pictures'."""
    errors = torch.rand(400, 6, dtype=torch.double)
    probability, spread = fit(errors, 2.0)
    assert torch.equal(probability.argmax(-1), (errors - errors.mean(0)).argmin(-1))
    torch.testing.assert_close(probability.sum(-1), torch.ones(400).double())
    centred = errors - errors.mean(0) - errors.mean(1, keepdim=True) + errors.mean()
    torch.testing.assert_close(spread, centred.std(correction=0))
    torch.testing.assert_close(probability, (-2 * centred / spread).softmax(-1))
    offset = torch.tensor([-5.0, 0, 0, 0, 0, 0]).double() + 3 * torch.rand(400, 1).double()
    other, scaled = fit(1e-3 * errors + offset, 2.0)
    torch.testing.assert_close(other, probability)
    torch.testing.assert_close(scaled, 1e-3 * spread)
    even, nothing = fit(torch.ones(5, 6), 2.0)
    assert nothing == 0
    torch.testing.assert_close(even, torch.full((5, 6), 1 / 6))


def test_the_disagreement() -> None:
    found = some_candidates(3, 6)
    assert disagreement(found, found, 0.5).item() == 0
    turned = found._replace(azimuth=found.azimuth + 2 * math.pi)
    assert disagreement(found, turned, 0.5).item() == pytest.approx(0, abs=1e-12)
    moved = found._replace(azimuth=found.azimuth + 0.25, probability=found.probability.roll(1, -1))
    expected = (2 - 2 * math.cos(0.25)) / 0.25 + (found.probability - found.probability.roll(1, -1)).square().sum(-1).mean()
    assert disagreement(found, moved, 0.5).item() == pytest.approx(expected.item())


def test_a_network_that_respects_mirrors_does_not_disagree() -> None:
    """Bins, their mirror images and whole turns: a symmetric network's proposals for a picture and for its mirror image."""
    pose, views = candidates(mirror=True, elevation=[0, 40], theta=10), make_views(circle(3))
    offset, elevation, theta, logit = torch.randn(4, 3, 6, dtype=torch.double)
    bins = [0, 5, 4, 3, 2, 1]
    picture = torch.cat([offset, elevation, theta, logit], -1)
    mirrored = torch.cat([-offset[:, bins], elevation[:, bins], -theta[:, bins], logit[:, bins]], -1)
    pose.encoder, pose.head = nn.Flatten(), nn.Linear(24, 24).double()
    with torch.no_grad():
        pose.head.weight.copy_(torch.eye(24))
        pose.head.bias.zero_()
    found, other = (pose.propose(values.view(3, 3, 8, 1), views) for values in (picture, mirrored))
    assert disagreement(found, other.mirrored(), 0.5).item() == pytest.approx(0, abs=1e-12)
    assert disagreement(found, other, 0.5).item() > 1


def test_candidates_are_drawn_with_their_probabilities() -> None:
    probability = torch.tensor([[0.1, 0.6, 0.3, 0.0]]).expand(20_000, -1)
    share = torch.bincount(draw(probability), minlength=4) / 20_000
    torch.testing.assert_close(share, probability[0], rtol=0, atol=0.02)  # about five standard deviations


def test_the_latent_code_grows() -> None:
    model, views = model_with(candidates(latent_dims=[0, 3])), make_views(circle(2))
    for done, dims in ((0.0, 0), (0.33, 0), (0.34, 3), (0.66, 3), (0.67, 12), (1.0, 12)):
        model.pose.schedule(done)
        latent = model.encode(views.image)
        assert not latent[:, dims:].any()
        assert latent[:, :dims].all()
    model.pose.schedule(0.4)
    again = model_with(candidates(latent_dims=[0, 3]))
    assert again.pose.dims == 0
    again.load_state_dict(model.state_dict())
    assert again.pose.dims == 3
    assert candidates(latent_dims=[]).dims == ALL


def test_known_shapes_give_the_azimuths_of_12_pictures() -> None:
    """The network alone, before a shape that is known: azimuths all round, found from nothing but the pictures."""
    views = make_views(circle(12))
    pose = PoseCandidates(ConvEncoder(64, (16, 32, 64)), 1.9, 3.5, num_rays=64).double()
    optimizer = torch.optim.Adam(pose.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        pose.step(Known(), views)[0].backward()
        optimizer.step()
    error = PoseError()
    error.update(pose.eval().estimate(views).camera.world_to_camera[..., :3], views.camera.world_to_camera[..., :3])
    values = error.compute()
    assert values["raw_under_30"] == 1
    assert values["raw_median"] < 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidates": 1}, {"theta": 90}, {"elevation": [40, 10]}, {"elevation": "level"}, {"elevation": [0, 90]},
        {"latent_dims": [2, 0]}, {"num_rays": 0}, {"softness": 0}, {"sharpness": 0}, {"weights": {"entropy": 1}},
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*model\.pose\..*got .*"):
        candidates(**wrong)


def test_models_of_whole_pictures_are_refused() -> None:
    class Whole(SDFSRN):
        whole_pictures = True

    with pytest.raises(ValueError, match="Expected a model of implicit shapes with model/pose=candidates, got Whole"):
        candidates().check(Whole.__new__(Whole))


@pytest.mark.slow
def test_a_training_resumes_exactly(tmp_path: pathlib.Path) -> None:
    """In two parts it ends with the weights of one; errors of poses are logged; its checkpoint loads, its code grown so far."""
    settings = [
        "experiment=no_poses", *PICTURES, *MODEL, "data.num_objects=6", "data.num_eval_objects=2", "data.batch_size=4",
        "data.shapes.views_per_object=2", "model.pose.encoder.widths=[8,8]", "model.pose.encoder.latent_dim=8",
        "callbacks.pretraining.iterations=20", "callbacks.pictures=null", "trainer.accelerator=cpu", "test=false",
        "trainer.val_check_interval=3", "trainer.log_every_n_steps=1", "+trainer.enable_progress_bar=false",
        f"paths.cache={tmp_path}/cache", "model.pose.latent_dims=[0,5]",
    ]  # fmt: skip

    def run(name: str, *more: str) -> dict[str, Tensor]:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            train(compose("train", [*settings, f"paths.output={tmp_path / name}", *more]))
        return torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]

    whole = run("whole", "trainer.max_steps=9")
    assert whole["pose.dims"] == ALL
    with pytest.raises(SystemExit):
        run("parts", "trainer.max_steps=9", f"+callbacks.stop={{_target_: {__name__}.Stop, step: 4}}")
    interrupted = torch.load(tmp_path / "parts/checkpoints/last.ckpt", weights_only=True)
    assert (interrupted["global_step"], interrupted["state_dict"]["pose.dims"].item()) == (5, 5)
    parts = run("parts", "trainer.max_steps=9")
    assert [name for name, value in whole.items() if not torch.equal(value, parts[name])] == []
    with (tmp_path / "whole/csv/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["pose/median"]) <= 180 for row in rows if row.get("pose/median"))
    assert sum(bool(row.get("pose/median")) for row in rows) == 3
    assert {"train/pose", "train/pose_probability", "train/pose_mirror", "train/pose_spread"} <= rows[0].keys()
    model = sdfsrn.load(tmp_path / "whole/checkpoints/last.ckpt")
    assert isinstance(model.pose, PoseCandidates)
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items() if name in whole)
