"""SoftRas and CMR from end to end: learning, the commands, resuming, Python, and what is refused."""

from __future__ import annotations

import csv
import json
import pathlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

import sdfsrn
from scenes import Memory
from sdfsrn import MeshModel
from sdfsrn.cli.reconstructing import reconstruct_pictures
from sdfsrn.data import BatchSettings, Pascal3DDataModule, PictureDataset, ShapeNetSource, SyntheticSource
from sdfsrn.data.source import ImageSample
from sdfsrn.evaluate import evaluate
from sdfsrn.functional.camera import PerspectiveCamera, look_at_origin, pixel_centers
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.losses import (
    DeformationLoss,
    FlattenLoss,
    FlowLoss,
    LaplacianLoss,
    MaskIoULoss,
    MaskLoss,
    Objective,
    SmoothnessLoss,
    TextureLoss,
)
from sdfsrn.models import DeformationDecoder, FlatConvEncoder, MeshDecoder, SoftRasterizer
from sdfsrn.runtime.configs import config_folder
from sdfsrn.structures import Views
from sdfsrn.train import train

NAMES = ["softras", pytest.param("cmr", marks=pytest.mark.slow)]
BOTH = pytest.mark.parametrize("name", NAMES)
SIZE = 32
SMALL = {
    "softras": ["model.encoder.widths=[4,8]", "model.encoder.hidden_width=16", "model.decoder.widths=[16,16]"],
    "cmr": ["model/encoder=flat_conv", "model.encoder.widths=[4,8]", "model.encoder.hidden_width=16"],
}
COMMON = [
    "experiment=pascal_synthetic",
    "data.num_objects=4",
    "data.num_eval_objects=2",
    "data.batch_size=4",
    "data.mirror=true",
    "data.scale_jitter=0.2",
    "data.shapes.image_size=24",
    "data.shapes.views_per_object=2",
    "geometry.radius=0.5",
    "geometry.extent=0.6",
    "model.encoder.latent_dim=16",
    "model.decoder.subdivisions=2",
    "model.losses.weights.silhouette=2",
    "model.validation.num_points=300",
    "optimizer.lr=0.003",
    "protocol.num_points=1000",
    "protocol.num_truth=1000",
    "trainer.max_steps=30",
    "trainer.val_check_interval=10",
    "trainer.accelerator=cpu",
]


def ellipse() -> ImageSample:
    """An ellipse on the screen, off the centre, seen by a tilted camera."""
    points = (pixel_centers(8 * SIZE, 8 * SIZE) - torch.tensor([0.1, -0.05])) / torch.tensor([0.65, 0.35])
    alpha = F.avg_pool2d((points.norm(dim=-1) < 1).float().view(1, 1, 8 * SIZE, 8 * SIZE), 8)[0, 0].numpy()
    pose = look_at_origin(torch.tensor([0.4]), torch.tensor([0.3]), 2.732)[0]
    camera = PerspectiveCamera(pose, torch.diag(torch.tensor([3.732, 3.732, 1.0])))
    return ImageSample(np.where(alpha[..., None] > 0, [200, 100, 50], 7).astype(np.uint8), alpha, camera)


def small_model(name: str) -> MeshModel:
    """The published losses; CMR's priors with weights of 1, since theirs allow no fit within seconds."""
    encoder = FlatConvEncoder(32, SIZE, (8, 16), 64)
    if name == "softras":
        terms = {"silhouette": MaskIoULoss(), "laplacian": LaplacianLoss(), "flatten": FlattenLoss()}
        losses = Objective(terms, {"silhouette": 1.0, "laplacian": 5e-3, "flatten": 5e-4})
        return MeshModel(encoder, MeshDecoder(32, 0.5, (64, 128), subdivisions=2), SoftRasterizer(1e-4), losses)
    terms = {"silhouette": MaskLoss(), "deformation": DeformationLoss(), "smoothness": SmoothnessLoss()}
    losses = Objective(terms, {"silhouette": 2.0, "deformation": 1.0, "smoothness": 1.0})
    return MeshModel(encoder, DeformationDecoder(32, 0.5, texture=False, subdivisions=2), SoftRasterizer(1e-5), losses)


def composed(command: str, folder: pathlib.Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, [*overrides, f"paths.output={folder}", f"paths.cache={folder.parent}/cache"])


def trained(name: str, folder: pathlib.Path, *more: str) -> pathlib.Path:
    train(composed("train", folder, *COMMON, f"model={name}", *SMALL[name], *more))
    return folder


@pytest.fixture(scope="module", params=NAMES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a training by the command; its parent is named after the model."""
    folder = tmp_path_factory.mktemp("meshes") / request.param / "run"
    return trained(request.param, folder, *(["model.losses.weights.texture=0"] if request.param == "cmr" else []))


@BOTH
def test_one_picture_is_learned_by_heart(name: str) -> None:
    views, model = PictureDataset(Memory([ellipse()])).views([0, 0]), small_model(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(120):
        shape = model(views.image)
        loss, _ = model.losses(shape, model.render(shape, views), views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        shape = model(views.image)
        rendering = model.render(shape, views)
    assert intersection_over_union(rendering.opacity[0] > 0, views.inside[0]) > 0.9
    assert intersection_over_union(model.surface_found(rendering)[0], views.inside[0]) > 0.9
    mesh = shape[:1].mesh()
    assert mesh.is_watertight
    assert mesh.volume > 0


def test_it_learns_and_is_measured(run: pathlib.Path) -> None:
    summary = json.loads((run / "test/summary.json").read_text())
    assert summary["measured"] == 2
    assert {"accuracy", "volume_iou", "silhouette_iou", "depth_error"} <= set(summary["metrics"])
    assert "color_error" not in summary["metrics"]  # there are no colours
    assert (run / "test/report.html").is_file()
    assert (run / "test/gallery.png").is_file()
    with (run / "csv/metrics.csv").open() as file:
        log = list(csv.DictReader(file))
    assert {"train/silhouette", "train/hit", "val/chamfer", "val/iou"} <= log[0].keys()
    losses = [float(row["train/silhouette"]) for row in log if row["train/silhouette"]]
    assert losses[-1] < losses[0]
    for path in (run / "test/meshes").glob("*.ply"):
        mesh = trimesh.load(path)
        assert mesh.is_watertight
        assert mesh.volume > 0
        assert len(mesh.vertices) == 162


def test_its_pictures_show_the_mesh(run: pathlib.Path) -> None:
    assert len(list((run / "pictures").glob("*.png"))) == 3
    assert trimesh.load(run / "pictures/step_000030.glb", force="mesh").is_watertight
    strip = np.asarray(Image.open(next((run / "test/pictures").glob("*.png"))).convert("RGB"))
    side = strip.shape[0]
    rendered = strip[:, side : 2 * side]
    assert 20 < (rendered != 255).any(-1).sum() < side * side


def test_it_resumes(run: pathlib.Path) -> None:
    """Two parts end with the weights of one."""
    name = run.parent.name
    whole = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    more = ["model.losses.weights.texture=0"] if name == "cmr" else []
    parts = run.parent / "parts"
    for steps in (10, 30):
        trained(name, parts, f"trainer.max_steps={steps}", "test=false", *more)
    resumed = torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_its_checkpoint_evaluates_but_not_with_test_time_optimization(run: pathlib.Path) -> None:
    checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"
    summary = evaluate(composed("evaluate", run.parent / "again", checkpoint, "accelerator=cpu"))
    assert summary["metrics"] == json.loads((run / "test/summary.json").read_text())["metrics"]
    refused = composed("evaluate", run.parent / "refused", checkpoint, "accelerator=cpu", "test_time_optimization=true")
    with pytest.raises(ValueError, match="renders single rays for test-time optimization, got MeshModel, which renders whole"):
        evaluate(refused)


def test_it_reconstructs_from_the_command_and_from_python(run: pathlib.Path) -> None:
    checkpoint, picture = run / "checkpoints/last.ckpt", run.parent / "photo.png"
    image = np.zeros((40, 60, 4), np.uint8)
    image[10:30, 20:40] = (250, 10, 10, 255)
    Image.fromarray(image).save(picture)
    settings = [f"ckpt_path={checkpoint}", f"image={picture}", "accelerator=cpu", "mesh_formats=[glb,obj]", "turntable=[]"]
    written = reconstruct_pictures(composed("reconstruct", run.parent / "meshes", *settings))
    mesh = sdfsrn.reconstruct(picture, checkpoint)
    assert mesh.is_watertight
    for path in written:
        np.testing.assert_allclose(trimesh.load(path, force="mesh").bounds, mesh.bounds, atol=1e-5)
    model = sdfsrn.load(checkpoint)
    assert isinstance(model, MeshModel)
    assert model.preprocessing.image_size == 24


def test_a_texture_is_trained_saved_and_drawn(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdfsrn.models.texture._CHANNELS", (8, 8, 8))
    folder = trained("cmr", tmp_path / "run", "trainer.max_steps=10")
    summary = json.loads((folder / "test/summary.json").read_text())
    assert summary["metrics"]["color_error"]["mean"] < 4
    path = next((folder / "test/meshes").glob("*.ply"))
    assert trimesh.load(path).visual.defined
    with (folder / "csv/metrics.csv").open() as file:
        assert {"train/texture", "train/flow"} <= set(next(csv.reader(file)))
    model = sdfsrn.load(folder / "checkpoints/last.ckpt")
    assert model.decoder.flow is not None


@BOTH
def test_built_in_python_it_describes_itself(name: str, tmp_path: pathlib.Path) -> None:
    model = small_model(name)
    torch.save({"state_dict": model.state_dict(), "config": model.description()}, tmp_path / "python.ckpt")
    again = sdfsrn.load(tmp_path / "python.ckpt")
    assert isinstance(again, MeshModel)
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(again(image).vertices, model.eval()(image).vertices)


@BOTH
def test_sampled_rays_are_refused(name: str) -> None:
    views = PictureDataset(Memory([ellipse()]), BatchSettings(num_rays=100)).views([0, 0])
    model = small_model(name)
    with pytest.raises(ValueError, match=r"Expected data\.num_rays=null with a mesh model.*1024 pixels of a picture, got 100"):
        model.render(model(views.image), views)


def test_parts_that_do_not_fit_are_refused() -> None:
    losses = Objective({"silhouette": MaskIoULoss()}, {"silhouette": 1.0})
    with pytest.raises(ValueError, match=r"Expected one latent_dim, got 8 \(encoder\) and 9 \(decoder\)"):
        MeshModel(FlatConvEncoder(8, SIZE, (4,), 8), MeshDecoder(9), SoftRasterizer(), losses)


def test_half_precision_touches_the_encoder_only() -> None:
    views, model = PictureDataset(Memory([ellipse()])).views([0, 0]), small_model("softras")
    with torch.autocast("cpu", torch.bfloat16):
        shape = model(views.image)
        rendering = model.render(shape, views)
        loss, _ = model.losses(shape, rendering, views)
    assert shape.vertices.dtype == rendering.alpha.dtype == torch.float32
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("experiment", "extent", "radius"), [("shapenet_chair", 0.5, 0.5), ("pascal_chair", 1.3, 1.0)])
def test_configurations_know_the_size_of_objects(experiment: str, extent: float, radius: float, tmp_path: pathlib.Path) -> None:
    choice = [f"experiment={experiment}", "data.root=x", "model.losses.weights.silhouette=2"]
    softras, cmr = (composed("train", tmp_path, *choice, f"model={name}") for name in ("softras", "cmr"))
    assert softras.model.decoder.extent == extent
    assert cmr.model.decoder.radius == radius
    assert softras.data.num_rays is None
    assert cmr.data.num_rays is None
    assert composed("train", tmp_path, *choice).data.num_rays == 1024
    assert (cmr.model.rasterizer.sigma, softras.model.rasterizer.sigma) == (1e-5, 1e-4)


def test_all_pixels_come_row_by_row_with_random_changes() -> None:
    """`num_rays=None` in training: the pixels of the changed pictures, all with the same weight, and no ground truth."""
    settings = BatchSettings(jitter=True, scale_jitter=0.2, mirror=True, boundary_fraction=0.5, training=True)
    views: Views = PictureDataset(Memory([ellipse()], points=5), settings).views([0, 0])
    assert torch.equal(views.color, views.image.flatten(2).mT)
    torch.testing.assert_close(views.camera.screen(views.uv), pixel_centers(SIZE, SIZE).expand(2, -1, -1), rtol=0, atol=1e-5)
    assert (views.inverse_density == 1).all()
    assert views.points.shape[1] == 0
    assert not torch.equal(views.image[0], views.image[1])


def test_texture_losses_reach_the_flow() -> None:
    encoder, decoder = FlatConvEncoder(8, SIZE, (4,), 8), DeformationDecoder(8, 0.5, texture=True, subdivisions=1)
    terms = {"texture": TextureLoss(), "flow": FlowLoss()}
    model = MeshModel(encoder, decoder, SoftRasterizer(), Objective(terms, {"texture": 0.5, "flow": 0.5}))
    views = PictureDataset(Memory([ellipse()]), BatchSettings(jitter=True, training=True)).views([0, 0])
    shape = model(views.image)
    loss, _ = model.losses(shape, model.render(shape, views), views)
    loss.backward()
    assert decoder.flow.network[0].weight.grad.abs().sum() > 0
    assert decoder.mean.grad is None  # colours do not move vertices


@pytest.mark.parametrize("category", ["chair", "airplane", "car"])
def test_built_in_objects_are_symmetric_in_x(category: str, tmp_path: pathlib.Path) -> None:
    source = SyntheticSource(category, "val", num_objects=1, views_per_object=1, image_size=24, cache=str(tmp_path))
    assert_symmetric_in_x(torch.from_numpy(source.points(0)))


def test_real_airplanes_are_symmetric_in_x(airplanes: pathlib.Path) -> None:
    assert_symmetric_in_x(torch.from_numpy(ShapeNetSource(str(airplanes), "airplane", "val").points(0)))


@pytest.mark.slow
@pytest.mark.parametrize("category", ["airplane", "car", "chair"])
def test_real_cad_models_are_symmetric_in_x(category: str, pascal3d: pathlib.Path, tmp_path: pathlib.Path) -> None:
    module = Pascal3DDataModule(root=str(pascal3d), category=category, cache=str(tmp_path))
    module.prepare()
    assert_symmetric_in_x(torch.from_numpy(module.source("val").points(0)))


def assert_symmetric_in_x(points: torch.Tensor) -> None:
    """Mirrored in x the cloud lies on itself, better than mirrored in z."""
    points = points[torch.randperm(len(points))[:4000]].float()
    half, rest = points[:2000], points[2000:]
    flips = (torch.tensor(flip) for flip in ([1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0]))
    still, in_x, in_z = (sum(chamfer_distance(half * flip, rest)).item() for flip in flips)
    assert in_x < 1.25 * still
    assert in_x < 0.8 * in_z
