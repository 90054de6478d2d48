"""The commands end to end, on data small enough for seconds."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import subprocess
import urllib.parse
import urllib.request

import numpy as np
import pytest
import torch
import trimesh
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

import commands
import sdfsrn
from sdfsrn.cli.command import check_choices, user_message
from sdfsrn.evaluation.previews import HEADINGS
from sdfsrn.evaluation.results import EvaluationOptions
from sdfsrn.evaluation.run import evaluate
from sdfsrn.meshes.geometry import largest_component
from sdfsrn.models import Field
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.structures import Views
from sdfsrn.system import SDFSRN
from sdfsrn.train import train

CHAIRS = ["data.num_objects=6", "data.num_eval_objects=2", "data.shapes.views_per_object=2"]
SMALL = [
    "data.batch_size=4",
    "data.num_rays=64",
    "model.hypernetwork.hidden_width=16",
    "model.hypernetwork.field.width=16",
    "model.encoder.latent_dim=16",
    "model.losses.terms.eikonal.num_points=64",
    "model.validation.resolution=16",
    "model.validation.num_points=500",
    "callbacks.pretraining.iterations=150",
    "callbacks.pretraining.num_points=512",
    "optimizer.lr=1.0e-4",  # the sphere stays a surface
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "protocol.resolution=24",
    "protocol.num_points=1000",
]
TINY = CHAIRS + SMALL


def run(
    module: str, *overrides: str, cwd: pathlib.Path, cache: pathlib.Path, **environment: str
) -> subprocess.CompletedProcess:
    """`python -m sdfsrn.<module> <overrides>` as a user types it, in `cwd`."""
    return commands.command(module, *overrides, cwd=cwd, SDFSRN_CACHE=str(cache), WANDB_MODE="offline", **environment)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: pathlib.Path) -> pathlib.Path:
    """The folder of a tiny training run, with all loggers; what it printed is beside it."""
    folder = tmp_path_factory.mktemp("empty")
    result = run("train", *TINY, "logger=tensorboard", "hydra.run.dir=run", cwd=folder, cache=cache)
    assert result.returncode == 0, result.stderr[-3000:]
    for name, text in {"stdout": result.stdout, "stderr": result.stderr}.items():
        (folder / name).write_text(text)
    return folder / "run"


def test_training_leaves_everything(trained: pathlib.Path) -> None:
    for name in (
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "csv/metrics.csv", ".hydra/config.yaml", "pictures/step_000004.png",
        "test/metrics.csv", "test/summary.json", "test/report.html", "test/gallery.png", "test/turntable.png",
    ):  # fmt: skip
        assert (trained / name).is_file(), name
    assert list((trained / "tensorboard").glob("events.*"))
    with (trained / "csv" / "metrics.csv").open() as file:
        columns = set(csv.DictReader(file).fieldnames)
    terms = {"silhouette", "color", "ray_surface", "ray_free", "eikonal", "loss", "hit"}
    assert {"learning_rate", "gradient/total", "throughput/images_per_second", "test/chamfer"} <= columns
    assert {f"train/{term}" for term in terms} | {
        "val/accuracy",
        "val/coverage",
        "val/chamfer",
        "val/failures",
    } <= columns


LOGGED = re.compile(r"\[[\d-]+ [\d:,]+\]\[\S+\]\[INFO\] - (.*)")


def messages(text: str) -> list[str]:
    """The lines of a log, and others."""
    return [LOGGED.sub(r"\1", line) for line in text.splitlines()]


def test_training_says_what_matters_and_nothing_else(trained: pathlib.Path) -> None:
    """The configuration's place, the stages, one line per progress, the table, and at its end where the report is."""
    first, second, *table, last = messages((trained.parent / "stdout").read_text())
    assert first == f"Configuration: {trained}/.hydra/config.yaml"
    assert second == f"Evaluating {trained}/checkpoints/best.ckpt"
    assert table[0].strip().startswith("Means over objects")
    assert table[-1].strip().startswith("2 of 2 objects measured")
    assert last.startswith("Report: file:///")
    report = pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(last.removeprefix("Report: ")).path))
    assert report == trained / "test" / "report.html"
    sphere, training = (line for line in messages((trained.parent / "stderr").read_text()) if " left" not in line)
    assert sphere.startswith("Sphere pretraining: root mean square error")
    assert re.fullmatch(r"Training: 4/4 steps in \d\d:\d\d, loss \d\.\d+, val/chamfer \d\.\d+", training)


def test_summary_agrees_with_rows(trained: pathlib.Path) -> None:
    summary = json.loads((trained / "test" / "summary.json").read_text())
    assert summary["about"]["checkpoint"] == str(trained / "checkpoints" / "best.ckpt")
    with (trained / "test" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary["objects"] == 2
    measured = [float(row["accuracy"]) for row in rows if row["status"] == "ok"]
    assert summary["measured"] == len(measured)
    assert summary["accuracy"] == pytest.approx(np.mean(measured))
    assert summary["accuracy_x10"] == pytest.approx(10 * summary["accuracy"])


def test_checkpoint_loads_without_executing_anything(trained: pathlib.Path) -> None:
    checkpoint = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert type(checkpoint["config"]) is dict
    model = sdfsrn.load(trained / "checkpoints" / "best.ckpt")
    assert isinstance(model, sdfsrn.SDFSRN)
    assert model.config["data"]["shapes"]["category"] == "chair"


def test_evaluate_gives_the_numbers_of_training(trained: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = run(
        "evaluate", f"ckpt_path={trained}/checkpoints/best.ckpt", "protocol.resolution=24", "protocol.num_points=1000",
        "hydra.run.dir=run", "mesh_formats=[glb]", "accelerator=cpu", cwd=tmp_path, cache=cache,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    ours, theirs = (json.loads(path.read_text()) for path in (tmp_path / "run/summary.json", trained / "test/summary.json"))
    assert ours["accuracy"] == theirs["accuracy"]
    assert ours["coverage"] == theirs["coverage"]
    assert {path.suffix for path in (tmp_path / "run" / "meshes").iterdir()} == {".glb"}


@pytest.mark.slow
def test_evaluate_measures_the_rest_and_its_exit_code_tells(
    trained: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Of six objects one has a broken picture, one a broken truth, one no truth, one a truth of ten points."""
    rng, rows = np.random.default_rng(0), []
    ball = trimesh.creation.icosphere(3, 0.4)
    ball.export(tmp_path / "ball.ply")
    np.save(tmp_path / "few.npy", ball.vertices[:10])
    np.save(tmp_path / "broken.npy", np.full((5, 3), np.nan))
    for name, shape in {"a": "ball.ply", "b": "few.npy", "c": "", "d": "broken.npy", "e": "ball.ply"}.items():
        y, x = np.mgrid[:48, :48] - 23.5
        image = np.dstack([rng.integers(0, 255, (48, 48, 3)), 255 * (np.hypot(x, y) < 14)]).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        split = "val" if name == "e" else "test"
        rows.append(f"{name}.png,{split},{shape},0,20,0,0.7,0,0")
    (tmp_path / "z.png").write_bytes(b"no picture")
    rows.insert(1, "z.png,test,ball.ply,0,20,0,0.7,0,0")
    (tmp_path / "cameras.csv").write_text("\n".join(["image,split,shape,azimuth,elevation,theta,scale,x,y", *rows]) + "\n")
    result = run(
        "evaluate", f"ckpt_path={trained}/checkpoints/best.ckpt", "data=folder", "data.root=.", "data.convention=nmr",
        "protocol.resolution=24", "protocol.num_points=1000", "mesh_formats=[ply]", "accelerator=cpu", "hydra.run.dir=run",
        "test_time_optimization=true", "optimization.steps=2", cwd=tmp_path, cache=cache,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "3 of 5 objects were not measured" in result.stderr
    for file in ("metrics.csv", "metrics_before.csv"):
        with (tmp_path / "run" / file).open() as opened:
            found = {row["name"]: row for row in csv.DictReader(opened)}
        assert [name.rsplit("_")[-1] for name in found] == ["a", "z", "b", "c", "d"]
        a, z, b, c, d = found.values()
        assert a["status"] == b["status"] == "ok"
        assert min(float(row["coverage"]) for row in (a, b)) > 0
        assert 0 < float(a["volume_iou"]) < 1
        assert b["volume_iou"] == b["normal_consistency"] == c["accuracy"] == ""
        assert z["status"].startswith("unreadable: ")
        assert "z.png" in z["status"]
        assert c["status"] == "no ground truth"
        assert float(c["silhouette_iou"]) > 0
        assert "broken.npy" in d["status"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [summary[name] for name in ("objects", "measured", "failures", "without_truth", "unreadable")] == [5, 2, 0, 1, 2]
    assert summary["before_optimization"]["metrics"]["accuracy"]["count"] == 2
    assert summary["metrics"]["silhouette_iou"]["count"] == 3
    assert list(summary["references"]) == ["untrained sphere", "best constant shape", "visual hull"]
    assert len(list((tmp_path / "run" / "meshes").iterdir())) == len(list((tmp_path / "run" / "pictures").iterdir())) == 3


def test_pictures_and_meshes_are_of_the_same_optimized_field(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = sdfsrn.load(trained / "checkpoints" / "best.ckpt")
    source = instantiate(model.config["data"]).source("test")

    def far_away(model: SDFSRN, views: Views) -> Field:
        field = model(views.image)
        field.sdf_head = field.sdf_head._replace(bias=field.sdf_head.bias + 100)
        return field

    protocol = sdfsrn.EvaluationProtocol(resolution=16, num_points=100)
    for name, refine in {"initial": None, "optimized": far_away}.items():
        summary = evaluate(model, source, protocol, tmp_path / name, EvaluationOptions(limit=1, refine=refine))
        (path,) = (tmp_path / name / "pictures").iterdir()
        depth = np.split(np.asarray(Image.open(path)), 5, axis=1)[HEADINGS.index("depth")]
        assert (summary["failures"], (depth == 255).all()) == ((0, False) if refine is None else (1, True))


@pytest.mark.slow
def test_reconstruct_files_folders_and_masks(trained: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    mask = np.zeros((90, 120), np.uint8)
    mask[20:70, 30:90] = 255
    color = rng.integers(0, 255, (90, 120, 3), np.uint8)
    Image.fromarray(np.dstack([color, mask])).save(tmp_path / "alpha.png")
    for name in ("one", "two"):
        Image.fromarray(color).save(tmp_path / "photos" / f"{name}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    common = [checkpoint, "protocol.resolution=24", "accelerator=cpu", "hydra.run.dir=run"]
    for overrides in (
        ["image=alpha.png", "turntable=[webp,gif,png]", "largest_component=true"],
        ["image=photos", "mask=masks", "crop=1.2"],
        ["image='photos/t*.jpg'", "mask=masks"],
    ):
        result = run("reconstruct", *common, *overrides, cwd=tmp_path, cache=cache)
        assert result.returncode == 0, result.stderr[-3000:]
    for stem in ("alpha", "one", "two"):
        assert (tmp_path / "run" / f"{stem}_turntable.png").is_file()
        meshes = [trimesh.load(tmp_path / "run" / f"{stem}.{suffix}", force="mesh") for suffix in ("ply", "obj", "glb")]
        for mesh in meshes:
            assert mesh.is_watertight
            assert mesh.volume > 0
            np.testing.assert_allclose(mesh.bounds, meshes[0].bounds, atol=1e-5)  # y up in all of them
    assert {path.name for path in (tmp_path / "run").glob("*_turntable.*")} == {
        *(f"{stem}_turntable.{suffix}" for stem in ("alpha", "one", "two") for suffix in ("webp", "png")), "alpha_turntable.gif"
    }  # fmt: skip
    for suffix in ("webp", "gif"):
        with Image.open(tmp_path / "run" / f"alpha_turntable.{suffix}") as loop:
            assert (loop.n_frames, loop.size) == (24, (192, 192))
    assert Image.open(tmp_path / "run" / "alpha_turntable.png").size == (9 * 192, 192)
    from_python = sdfsrn.reconstruct(
        tmp_path / "alpha.png", trained / "checkpoints" / "best.ckpt", grid=sdfsrn.Grid(resolution=24)
    )
    written = trimesh.load(tmp_path / "run" / "alpha.ply")
    largest = largest_component(from_python)
    np.testing.assert_allclose(largest.vertices, written.vertices, atol=1e-5)


def test_formats_that_cannot_be_written_are_named_with_their_key() -> None:
    check_choices("turntable", ["png"], ["png", "webp"])
    with pytest.raises(ValueError, match="turntable of png, webp, got avi, mp4"):
        check_choices("turntable", ["mp4", "png", "avi"], ["png", "webp"])


def test_resume_continues_the_count(trained: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = run(
        "train", *TINY, "trainer.max_steps=6", f"ckpt_path={trained}/checkpoints/last.ckpt", "test=false",
        "hydra.run.dir=run", cwd=tmp_path, cache=cache,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert [line.partition(" ")[0] for line in messages(result.stdout)] == ["Configuration:", "Going"]
    (training,) = (line for line in result.stderr.splitlines() if " left" not in line)
    assert training.startswith("Training: 6/6 steps in ")
    with (tmp_path / "run/csv/metrics.csv").open() as file:
        steps = sorted({int(row["step"]) for row in csv.DictReader(file)})
    assert steps == [4, 5]


@pytest.mark.slow
def test_a_run_is_reproducible_from_its_seed(trained: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = run("train", *TINY, "test=false", "hydra.run.dir=run", cwd=tmp_path, cache=cache)
    assert result.returncode == 0, result.stderr[-3000:]
    first = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    second = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_tensorboard_has_the_pictures_too(trained: pathlib.Path) -> None:
    events = event_accumulator.EventAccumulator(str(trained / "tensorboard"), {event_accumulator.TENSORS: 0})
    tags = events.Reload().Tags()
    assert {"learning_rate", "gradient/total", "throughput/images_per_second", "val/chamfer", "test/chamfer"} <= {
        *tags["scalars"]
    }
    assert [image.step for image in events.Images("val/pictures")] == [2, 4]
    assert {"val/mesh_VERTEX", "val/mesh_FACE", "val/mesh_COLOR", "val/truth_VERTEX"} <= {*tags["tensors"]}


@pytest.mark.parametrize(
    ("overrides", "needle"),
    [
        (["experiment=shapenet_chair", "data.root=/nowhere"], "/nowhere"),
        (["data=shapenet", "data.root=/nowhere"], "with data=shapenet: one of"),
        (["ckpt_path={trained}/checkpoints/last.ckpt", "model.hypernetwork.hidden_width=8"], "another architecture"),
        (["data.nonsense=1"], "nonsense"),
        (["experiment=missing"], "missing"),
    ],
)
def test_bad_settings_end_in_words_before_training(
    overrides: list[str], needle: str, trained: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    overrides = [override.format(trained=trained) for override in overrides]
    settings = SMALL if "data.root=/nowhere" in overrides else TINY
    result = run("train", *settings, *overrides, "hydra.run.dir=run", cwd=tmp_path, cache=cache)
    assert result.returncode != 0
    assert needle in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "needle"),
    [
        ("data.shapes.category=boat", "boat"),
        ("ckpt_path=missing.ckpt", "missing.ckpt"),
        ("model/encoder=resnet model.encoder.weights=missing.pth", "missing.pth"),
        ("model/encoder=resnet model.encoder.depth=19", "19"),
        ("data.num_rays=5000", "4096"),
        ("data.boundary_fraction=1", "boundary_fraction"),
        ("data.batch_size=500", "500"),
        ("+data.nonsense=1", "nonsense"),
        ("+model.losses.weights.other=1", "other"),
    ],
)
def test_bad_settings_are_named_in_one_line(
    override: str, needle: str, cache: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*TINY, f"paths.output={tmp_path}", f"paths.cache={cache}", *override.split()])
    with pytest.raises((ValueError, InstantiationException)) as error:
        train(config)
    message = user_message(error.value)
    assert needle in message
    assert "\n" not in message
    assert not (tmp_path / "checkpoints").exists()
