"""`python -m sdfsrn.prepare` and what follows it, for every data set: prepare, train, evaluate, reconstruct."""

from __future__ import annotations

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest
import torch
import trimesh
from hydra import compose, initialize_config_dir
from PIL import Image

import sdfsrn.data.sources.pascal3d_release as release_module
from sdfsrn.cli.reconstructing import reconstruct_pictures
from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.evaluate import evaluate
from sdfsrn.prepare import prepare
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.train import train

TINY = [
    "data.batch_size=2",
    "data.num_rays=48",
    "data.val_objects=2",
    "model.encoder.weights=null",
    "model.encoder.latent_dim=16",
    "model.hypernetwork.hidden_width=32",
    "model.hypernetwork.field.width=32",
    "model.losses.terms.eikonal.num_points=64",
    "model.validation.resolution=16",
    "model.validation.num_points=500",
    "callbacks.pretraining.iterations=500",
    "callbacks.pretraining.num_points=512",
    "callbacks.pretraining.learning_rate=3e-3",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
]


def composed(name: str, output: pathlib.Path, *overrides: str):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(name, [f"paths.output={output}", f"paths.cache={output / 'cache'}", *overrides])


def metrics(folder: pathlib.Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_pascal3d_from_the_release_to_a_mesh(
    pascal3d: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepare, train, evaluate with ICP, reconstruct: cars of the real release's layout, lists of three and six images."""
    monkeypatch.setattr(release_module, "NUM_POINTS", 3000)
    data = [f"data.root={pascal3d}", f"data.cache={tmp_path / 'made'}", "data.category=car"]
    report = prepare(composed("prepare", tmp_path / "prepared", "data=pascal3d", *data, "num_workers=0"))
    assert report["failures"] == {}
    assert report["val"]["unusable"] == {}
    assert report["val"]["truth"]["outside_mean"] < 0.15  # 3 x the height is less than the length of a racing car
    assert json.loads((tmp_path / "prepared/report.json").read_text()) == report
    for split in ("train", "val", "test"):
        sheet = np.asarray(Image.open(tmp_path / f"prepared/{split}.png"))
        assert sheet.std() > 20
    value = train(
        composed(
            "train",
            tmp_path / "run",
            "experiment=pascal_car",
            *data,
            *TINY,
            "protocol.resolution=16",
            "protocol.num_points=1000",
        )
    )
    assert value is not None
    rows = metrics(tmp_path / "run/test")
    assert len(rows) == report["test"]["pictures"]
    assert {row["status"] for row in rows} == {"ok"}
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    summary = evaluate(composed("evaluate", tmp_path / "again", f"ckpt_path={checkpoint}", "limit=1", "accelerator=cpu"))
    assert (summary["protocol"]["icp_iterations"], summary["protocol"]["high"]) == (50, 1.3)  # as in training
    name = rows[0]["name"].removeprefix("car_")
    image = pascal3d / "Images/car_imagenet" / f"{name.rsplit('_', 1)[0]}.JPEG"
    mask = tmp_path / "made/masks/car" / f"{name}.png"
    settings = [f"ckpt_path={checkpoint}", f"image={image}", f"mask={mask}", "crop=1.2", "accelerator=cpu"]
    written = reconstruct_pictures(composed("reconstruct", tmp_path / "meshes", *settings))
    mesh = trimesh.load(next(path for path in written if path.suffix == ".ply"))
    assert mesh.is_watertight


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Ten boxes of different proportions in several formats, one of them broken."""
    folder = tmp_path_factory.mktemp("meshes")
    generator = np.random.default_rng(0)
    for number, suffix in enumerate(["obj", "off", "ply", "glb", "stl"] * 2):
        box = trimesh.creation.box(generator.uniform(0.4, 1, 3))
        box.visual.face_colors = [200, 40 * (number % 5), 60, 255]
        box.export(folder / f"box{number}.{suffix}")
    (folder / "broken.off").write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
    return folder


@pytest.fixture(scope="module")
def boxes(meshes: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, dict]:
    """The same, rendered; and the report."""
    root = tmp_path_factory.mktemp("rendered")
    options = ["render.num_views=3", "render.image_size=32", "render.num_points=500", "render.fractions=[0.4,0.3,0.3]"]
    settings = ["data=shapenet", f"data.root={root}", "data.category=boxes", f"models={meshes}", "num_workers=0", *options]
    return root, prepare(composed("prepare", root / "report", *settings))


@pytest.mark.slow
def test_anyone_with_meshes_can_make_a_data_set(boxes: tuple[pathlib.Path, dict], tmp_path: pathlib.Path) -> None:
    root, report = boxes
    assert (report["models"]["models"], report["models"]["rendered"]) == (11, 10)
    assert list(report["models"]["skipped"]) == ["broken"]
    assert sum(report["models"][split] for split in ("train", "val", "test")) == 10
    assert report["test"]["truth"]["outside_max"] < 0.01
    data = ["data=shapenet", f"data.root={root}", "data.category=boxes"]
    train(
        composed(
            "train",
            tmp_path / "run",
            "experiment=shapenet_chair",
            *data,
            *TINY,
            "protocol.resolution=16",
            "protocol.num_points=1000",
        )
    )
    assert {row["status"] for row in metrics(tmp_path / "run/test")} == {"ok"}


def test_hull_depths_are_made_ahead_and_found_by_training(
    boxes: tuple[pathlib.Path, dict], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    data = ["data=shapenet", f"data.root={boxes[0]}", "data.category=boxes", "data.hull_depth=true"]
    data.append(f"data.hull_folder={tmp_path / 'hulls'}")
    report = prepare(composed("prepare", tmp_path / "report", *data))
    made = report["hull_depth"]
    assert made["pictures"] == report["train"]["pictures"] == 3
    assert made["seconds"] > 0
    assert [pathlib.Path(made["file"])] == list((tmp_path / "hulls").iterdir())
    assert json.loads((tmp_path / "report/report.json").read_text()) == report
    assert "3 pictures with the depth of a visual hull, made in" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr("sdfsrn.data.batches.hulls.hull_depth", None)
    dataset = instantiate(composed("train", tmp_path, *data).data).dataset("train")
    views = dataset.views(range(3))
    assert views.hull_depth.isfinite().sum() > 0.9 * views.inside.sum()
    assert views.hull_depth[views.hull_depth.isfinite()].min() > 1.7
    assert dataset.hull_depth is not None
    assert dataset.hull_depth.seconds == 0


def test_hull_depths_of_one_view_per_object_are_refused_after_the_report(
    boxes: tuple[pathlib.Path, dict], tmp_path: pathlib.Path
) -> None:
    settings = ["data=shapenet", f"data.root={boxes[0]}", "data.category=boxes"]
    prepare(composed("prepare", tmp_path / "exported", *settings, f"export={tmp_path / 'folder'}"))
    folder = ["data=folder", f"data.root={tmp_path / 'folder'}", "data.crop=null", "data.image_size=32"]
    for data in (folder, [*settings, "data.views=one"]):
        with pytest.raises(ValueError, match=r"several views per object with data\.hull_depth=true"):
            prepare(composed("prepare", tmp_path / "report", *data, "data.hull_depth=true"))
        assert "hull_depth" not in json.loads((tmp_path / "report/report.json").read_text())


def test_any_data_set_becomes_a_folder_and_comes_back(boxes: tuple[pathlib.Path, dict], tmp_path: pathlib.Path) -> None:
    """Exported by the command, read back as data=folder: the same batches, to the rounding of 8 bits."""
    data = ["data=shapenet", f"data.root={boxes[0]}", "data.category=boxes"]
    prepare(composed("prepare", tmp_path / "report", *data, f"export={tmp_path / 'folder'}"))
    folder = ["data=folder", f"data.root={tmp_path / 'folder'}", "data.crop=null", "data.image_size=32"]
    again = instantiate(composed("train", tmp_path, *folder).data)
    original = instantiate(composed("train", tmp_path, *data).data)
    for split in ("train", "val"):
        one, other = (PictureDataset(module.source(split)) for module in (original, again))
        assert len(one) == len(other)
        first, second = (dataset.views(range(len(dataset))) for dataset in (one, other))
        assert torch.equal(first.inside, second.inside)
        for field in ("image", "uv", "color", "distance"):
            torch.testing.assert_close(getattr(first, field), getattr(second, field), atol=0.005, rtol=0)
        torch.testing.assert_close(first.camera.world_to_camera, second.camera.world_to_camera)
        assert first.points.shape == second.points.shape


@pytest.mark.slow
def test_a_folder_without_truth_trains(boxes: tuple[pathlib.Path, dict], tmp_path: pathlib.Path) -> None:
    """Own pictures: no 3D anywhere, the best checkpoint is chosen by silhouettes, objects count as not measured."""
    root = tmp_path / "folder"
    settings = ["data=shapenet", f"data.root={boxes[0]}", "data.category=boxes"]
    prepare(composed("prepare", tmp_path / "report", *settings, f"export={root}"))
    with (root / "cameras.csv").open() as file:
        rows = [row | {"shape": ""} for row in csv.DictReader(file)]
    with (root / "cameras.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    shutil.rmtree(root / "shapes")
    options = [
        "experiment=folder",
        f"data.root={root}",
        "geometry=perspective",
        *TINY,
        "protocol.resolution=16",
        "protocol.num_points=1000",
    ]
    value = train(composed("train", tmp_path / "run", *options))
    assert value is not None
    assert 0 <= value <= 1
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    assert {row["status"] for row in metrics(tmp_path / "run/test")} <= {"no ground truth", "failure: no surface"}


def test_a_split_that_cannot_be_used_is_told_after_the_rest(boxes: tuple[pathlib.Path, dict], tmp_path: pathlib.Path) -> None:
    root = tmp_path / "spoiled"
    shutil.copytree(boxes[0] / "boxes", root / "boxes")
    (root / "boxes/softras_val.lst").unlink()
    model = (root / "boxes/softras_train.lst").read_text().split()[0]
    Image.new("L", (32, 32)).save(root / "boxes" / model / "mask/0000.png")
    with pytest.raises(ValueError, match=r"softras_val\.lst"):
        prepare(composed("prepare", tmp_path / "out", "data=shapenet", f"data.root={root}", "data.category=boxes"))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert len(report["train"]["faults"]["empty"]) == 1
    assert "empty" not in report["test"]["faults"]
    assert not (tmp_path / "out/val.png").exists()


def test_models_need_the_layout_of_shapenet(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="data=shapenet"):
        prepare(composed("prepare", tmp_path, "data=synthetic", "models=somewhere"))
