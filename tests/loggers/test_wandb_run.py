"""A run of Weights & Biases without a network, read back from the file that `wandb sync` would upload."""

from __future__ import annotations

import json
import math
import pathlib
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hydra import compose, initialize_config_dir
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

import sdfsrn.train
from sdfsrn.cli.building import _git_state
from sdfsrn.evaluation.previews import HEADINGS, Preview
from sdfsrn.loggers import WandbRun
from sdfsrn.loggers.media import log_media
from sdfsrn.runtime.configs import config_folder

SMALL = [
    "data.num_objects=4", "data.num_eval_objects=2", "data.shapes.views_per_object=1", "data.batch_size=2", "data.num_rays=32",
    "model.hypernetwork.hidden_width=16", "model.hypernetwork.field.width=16", "model.encoder.latent_dim=16",
    "model.losses.terms.eikonal.num_points=64", "model.validation.resolution=16", "model.validation.num_points=500",
    "model.validation.num_truth=30000",
    "callbacks.pretraining.iterations=100", "callbacks.pretraining.num_points=512", "trainer.max_steps=4",
    "optimizer.lr=1.0e-4",  # the sphere stays a surface
    "trainer.val_check_interval=2", "trainer.accelerator=cpu", "trainer.log_every_n_steps=2",
    "+trainer.enable_progress_bar=false", "logger=wandb", "logger.wandb.offline=true", "test=false",
]  # fmt: skip


class Run:
    """What a run's only .wandb file says: a LevelDB log of protocol buffers."""

    def __init__(self, output: pathlib.Path) -> None:
        (self.path,) = output.glob("wandb/offline-run-*/run-*.wandb")
        self.media = self.path.parent / "files"
        self.config, self.summary, self.history, self.artifacts, self.exit_codes = {}, {}, [], [], []
        for record in self._whole():
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.id = record.run.run_id
            elif kind == "config":
                self.config |= _items(record.config.update)
            elif kind == "summary":
                self.summary |= _items(record.summary.update)
            elif kind == "history":
                self.history.append(_items(record.history.item))
            elif kind == "artifact":
                self.artifacts.append(record.artifact)
            elif kind == "exit":
                self.exit_codes.append(record.exit.exit_code)

    def values(self, name: str) -> list[Any]:
        return [row[name] for row in self.history if name in row]

    def _whole(self) -> list[Any]:
        """All records, once the last is there: W&B's own process writes a moment longer than the run lasts."""
        for _ in range(300):
            records = list(_records(self.path.read_bytes()))
            if any(record.WhichOneof("record_type") == "exit" for record in records):
                return records
            time.sleep(0.1)
        raise TimeoutError(f"The run in {self.path} has not ended.")


def _records(data: bytes) -> Iterator[Any]:
    """Those that are whole: of the last one, a file that is being written may hold only a part."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, content = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no header fits into the rest of the block
            at += 32768 - at % 32768
            continue
        _, length, part = struct.unpack("<IHB", data[at : at + 7])  # part: 1 the whole, 2 first, 3 middle, 4 last
        start, at = at + 7, at + 7 + length
        if at > len(data):
            return
        content = (content if part in (3, 4) else b"") + data[start:at]
        if part in (1, 4):
            yield Record.FromString(content)


def _items(items: Any) -> dict[str, Any]:
    """Nested keys as nested dictionaries."""
    result: dict[str, Any] = {}
    for item in items:
        *parents, last = item.nested_key or [item.key]
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(item.value_json)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A git checkout to work in; wandb writes nowhere else."""
    folder = tmp_path_factory.mktemp("checkout")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (folder / "followed.txt").write_text("one")
    for command in (["init", "-q"], ["add", "followed.txt"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off"}.items():
            patch.setenv(f"WANDB_{name}", value)
        for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
            patch.setenv(f"WANDB_{name}", str(folder / ".." / f"wandb_{folder.name}"))
        yield folder


def train(folder: pathlib.Path, name: str, *overrides: str) -> Run:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        output = folder / "outputs" / name
        config = compose("train", [*SMALL, f"paths.output={output}", f"paths.cache={folder}/cache", *overrides])
    sdfsrn.train.train(config)
    return Run(output)


@pytest.fixture(scope="module")
def run(folder: pathlib.Path) -> Run:
    return train(folder, "first", "logger.wandb.log_model=true")


def test_numbers_of_training_and_validation(run: Run) -> None:
    names = {"loss", "silhouette", "color", "ray_surface", "ray_free", "eikonal", "hit"}
    others = {"learning_rate", "throughput/images_per_second", "throughput/steps_per_second"}
    gradients = {f"gradient/{part}" for part in ("encoder", "hypernetwork", "total")}
    (first, second) = (row for row in run.history if "train/loss" in row)
    assert {f"train/{name}" for name in names} | others | gradients <= first.keys() & second.keys()
    assert [first["trainer/global_step"], second["trainer/global_step"]] == [1, 3]
    assert first["learning_rate"] > second["learning_rate"] > 0
    assert min(first[name] for name in gradients) > 0
    assert len(run.values("val/chamfer")) == len(run.values("val/iou")) == 2


def test_summary_holds_the_best_of_all_validations(run: Run) -> None:
    assert run.summary["val/chamfer"] == {"min": min(run.values("val/chamfer"))}
    assert run.summary["val/iou"] == {"max": max(run.values("val/iou"))}
    assert run.summary["val/accuracy"] == run.values("val/accuracy")[-1]


def test_configuration_and_git_state(run: Run, folder: pathlib.Path) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    assert run.config["git"] == {"commit": commit, "dirty": False}
    assert run.config["data"]["num_rays"] == 32
    assert run.config["logger"]["wandb"]["id"] == run.id


def test_pictures_meshes_and_points(run: Run) -> None:
    rows = [row for row in run.history if "val/pictures" in row]
    assert [row["trainer/global_step"] for row in rows] == [2, 4]
    for row in rows:
        with Image.open(run.media / row["val/pictures"]["path"]) as picture:
            assert picture.width > picture.height > 250
        assert row["val/mesh"]["count"] == 2
        for name in row["val/mesh"]["filenames"]:
            mesh = trimesh.load(run.media / "media" / "object3D" / name, force="mesh")
            assert mesh.is_watertight
            assert mesh.volume > 0
        points = np.array(json.loads((run.media / row["val/truth"]["path"]).read_text()))
        assert points.shape[1] == 3
        assert 1000 < len(points) <= 2000
        assert 0.5 < np.ptp(points, axis=0).max() < 1.5


def test_table_of_predictions_measures_as_the_validation_does(run: Run) -> None:
    contents = [
        {c.path: pathlib.Path(c.local_path) for c in a.manifest.contents} for a in run.artifacts if a.type == "run_table"
    ]
    assert len(contents) == 2
    for i, files in enumerate(contents):
        table = json.loads(files["val/predictions.table.json"].read_text())
        assert table["columns"] == ["name", "image", "render", "normals", "mesh", "accuracy", "coverage", "iou"]
        assert [row[0] for row in table["data"]] == ["chair-val-0000_00", "chair-val-0001_00"]
        sizes = [[Image.open(files[cell["path"]]).size for cell in row[1:5]] for row in table["data"]]
        assert sizes == [[(64, 64)] * 3 + [(128, 128)]] * 2
        numbers = np.array([row[5:] for row in table["data"]], float).mean(0)
        expected = [run.values(f"val/{name}")[i] for name in ("accuracy", "coverage", "iou")]
        assert numbers == pytest.approx(expected, rel=5e-3)  # a batch rounds otherwise than one by one


def test_checkpoints_are_artifacts_on_request(run: Run, folder: pathlib.Path) -> None:
    models = {next(alias for alias in a.aliases if alias != "latest"): a for a in run.artifacts if a.type == "model"}
    assert models.keys() == {"best", "last"}
    for alias, artifact in models.items():
        (content,) = artifact.manifest.contents
        assert artifact.name == f"model-{run.id}"
        assert content.size == (folder / "outputs" / "first" / "checkpoints" / f"{alias}.ckpt").stat().st_size


def test_the_run_is_over_when_training_is(run: Run) -> None:
    import wandb

    assert wandb.run is None
    assert run.exit_codes == [0]


def test_a_file_that_is_being_written_is_read_as_far_as_it_goes(run: Run) -> None:
    data = run.path.read_bytes()
    everything = list(_records(data))
    lengths = []
    for end in range(7, len(data), len(data) // 100):
        records = list(_records(data[:end]))
        assert records == everything[: len(records)]
        lengths.append(len(records))
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 10


def test_resuming_goes_on_with_the_run(run: Run, folder: pathlib.Path) -> None:
    (folder / "followed.txt").write_text("two")
    last = folder / "outputs" / "first" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["config"]["logger"]["wandb"]["id"] == run.id
    resumed = train(folder, "second", f"ckpt_path={last}", "trainer.max_steps=6")
    assert resumed.id == run.id
    assert resumed.values("trainer/global_step")[0] == 5
    assert resumed.config["git"]["dirty"]
    assert not [artifact for artifact in resumed.artifacts if artifact.type == "model"]


def test_a_run_that_fails_says_so(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise FloatingPointError

    monkeypatch.setattr(sdfsrn.SDFSRN, "training_step", broken)
    with pytest.raises(FloatingPointError):
        train(folder, "third", "callbacks.pretraining=null", "logger.wandb.id=mine")
    failed = Run(folder / "outputs" / "third")
    assert (failed.id, failed.exit_codes) == ("mine", [1])


def test_a_given_id_is_kept_and_a_new_one_is_new() -> None:
    resumed = {"config": {"logger": {"wandb": {"id": "old"}}}}
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config, given, plain = (compose("train", [o]) for o in ("logger=wandb", "+logger.wandb.id=given", "logger=csv"))

    def name(config: Any, before: dict | None) -> str | None:
        return sdfsrn.train._with_logs(config, before).logger.get("wandb", {}).get("id")

    assert name(config, resumed) == "old"
    assert name(given, resumed) == "given"
    assert name(plain, resumed) is None
    assert name(config, None) != name(config, None) is not None
    assert name(config, {"config": {"logger": {"csv": {}}}}) not in (None, "old")
    assert "HOME" not in name(config, {"config": {"logger": {"wandb": {"id": "${oc.env:HOME}"}}}})  # from a stranger's file
    assert config.logger.wandb.id is None


class Resumed:
    """A run that was resumed online, as far as the logger asks."""

    resumed = True

    def __init__(self, key: str) -> None:
        self.key, self.summary = key, {key: 7}
        self.rows: list[dict[str, Any]] = []
        self.axes: dict[str, str] = {}

    def define_metric(self, name: str, step_metric: str, **_: Any) -> None:
        self.axes[name] = step_metric

    def log(self, metrics: dict[str, Any], **options: Any) -> None:
        assert not options  # W&B's own step would drop what comes before it
        self.rows.append(metrics)

    @property
    def steps(self) -> list[int]:
        return [row[self.key] for row in self.rows]


def log_as_renamed(logger: WandbLogger, metrics: dict[str, Any], step: int | None = None) -> None:
    """`WandbLogger.log_metrics` with another name for the trainer's step."""
    logger.experiment.log({**metrics, "global_step": step})


@pytest.mark.parametrize("key", ["trainer/global_step", "global_step"])
def test_a_resumed_run_gets_no_step_twice_under_any_name_of_the_step(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if key == "global_step":
        monkeypatch.setattr(WandbLogger, "log_metrics", log_as_renamed)
    run = Resumed(key)
    monkeypatch.setattr("wandb.init", lambda **_: run)
    logger = WandbRun(offline=True)
    for step in (5, 6, 7, 8, 9):
        logger.log_metrics({"train/loss": 1.0}, step)
    assert run.steps == [8, 9]
    assert run.axes == dict.fromkeys(("val/chamfer", "val/iou"), key)
    assert [logger.has(step) for step in (7, 8, None)] == [True, False, False]


@pytest.mark.parametrize("key", ["trainer/global_step", "global_step"])
def test_media_have_the_step_of_the_numbers(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if key == "global_step":
        monkeypatch.setattr(WandbLogger, "log_metrics", log_as_renamed)
    run, picture = Resumed(key), np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr("wandb.init", lambda **_: run)
    nothing = Preview("a", [picture] * len(HEADINGS), trimesh.Trimesh(), picture, torch.zeros(0, 3), math.nan, math.nan, 0.5)
    for step in (7, 8):
        log_media(WandbRun(offline=True), [nothing], Image.fromarray(picture), step)
    assert run.steps == [8]
    assert set(run.rows[0]) == {"val/pictures", "val/predictions", key}


def test_without_a_checkout_or_git_there_is_no_git_state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert _git_state() == {}
    monkeypatch.setenv("PATH", "")
    assert _git_state() == {}


@pytest.mark.slow
def test_wandb_is_imported_only_when_asked_for() -> None:
    subprocess.run([sys.executable, "-c", "import sdfsrn.train, sys; assert 'wandb' not in sys.modules"], check=True)
