"""A whole evaluation of a model that is known: rows, files, memory, and the report made again from the files."""

from __future__ import annotations

import csv
import dataclasses
import gc
import json
import math
import pathlib
import shutil
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import trimesh
from hydra import compose, initialize_config_dir

from scenes import disc
from sdfsrn import EvaluationProtocol
from sdfsrn import evaluate as command
from sdfsrn.data.source import ImageSample
from sdfsrn.evaluation.measuring import metric_names
from sdfsrn.evaluation.references import reference_shapes
from sdfsrn.evaluation.report import report_evaluation
from sdfsrn.evaluation.results import EvaluationOptions, results
from sdfsrn.evaluation.run import evaluate
from sdfsrn.functional.camera import OrthographicCamera
from sdfsrn.functional.isosurface import Grid
from sdfsrn.losses import Objective
from sdfsrn.runtime.configs import config_folder
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel

PROTOCOL = EvaluationProtocol(resolution=12, num_points=300, num_truth=300)
TRUE = 0.4  # radius of the true balls
STATUSES = ["ok", "unreadable", "failure", "no ground truth", "ok"]


class Balls:
    """Balls about the origin, of these radii."""

    def __init__(self, radius: torch.Tensor) -> None:
        self.radius = radius

    def __getitem__(self, objects: slice) -> Balls:
        return Balls(self.radius[objects])

    def mesh(self, grid: Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        if not self.radius.isfinite().all():
            raise ValueError("The radius is not finite.")
        ball = trimesh.creation.icosphere(3, self.radius.item())
        ball.visual.vertex_colors = np.tile([200, 100, 50, 255], (len(ball.vertices), 1)).astype(np.uint8)
        return ball


class Discs(NamedTuple):
    """Balls seen by cameras far away."""

    color: torch.Tensor
    depth: torch.Tensor
    opacity: torch.Tensor


class Constant(ShapeModel):
    """Sees a ball of radius 0.3 in every picture, and one that is not finite in pictures without red."""

    def __init__(self) -> None:
        super().__init__(Objective({"none": torch.nn.Identity()}, {"none": 1.0}))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return torch.where(image[:, :1].amin((2, 3)) < -0.9, torch.nan, 0.3)

    def decode(self, latent: torch.Tensor) -> Balls:
        return Balls(latent[:, 0])

    def render(self, shape: Balls, views: Views) -> Discs:
        inside = views.uv.norm(dim=-1) < shape.radius[:, None]
        return Discs(torch.zeros(*inside.shape, 3), torch.ones(inside.shape), inside.float())


class Five:
    """As many pictures of balls: good, unreadable, not red, of unknown shape, good."""

    names = [f"{letter}/image/0.png" for letter in "abcde"]

    def __len__(self) -> int:
        return 5

    def picture(self, index: int) -> ImageSample:
        if index == 1:
            raise ValueError("Expected a picture, got none in b.png")
        sample = disc(OrthographicCamera, 16, TRUE, (0.0, 0.0))
        return sample._replace(image=sample.image * np.array([0, 1, 1], np.uint8)) if index == 2 else sample

    def points(self, index: int) -> np.ndarray:
        directions = np.random.default_rng(index).normal(size=(0 if index == 3 else 300, 3))
        return (TRUE * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def larger(model: ShapeModel, views: Views) -> Balls:
    return Balls(model(views.image).radius + 0.1)


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of an evaluation with test-time optimization, which makes the balls as large as the true ones."""
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    options = EvaluationOptions(("ply", "glb"), reference=Five(), refine=larger, about={"checkpoint": "best.ckpt"})
    evaluate(Constant(), Five(), PROTOCOL, folder, options)
    return folder


def test_results_come_one_by_one_and_say_what_became_of_each_object() -> None:
    options = EvaluationOptions(refine=larger)
    found = list(results(Constant(), Five(), PROTOCOL, reference_shapes(None, PROTOCOL), options))
    assert [result.row.status.split(":")[0] for result in found] == STATUSES
    assert [result.reconstruction is None for result in found] == [False, True, False, False, False]
    assert [len(result.references) for result in found] == [2, 0, 2, 2, 2]
    good, unreadable, failure, unknown, _ = found
    assert good.row.values["chamfer"] < 0.05 < good.before.values["chamfer"] == pytest.approx(0.1, abs=0.01)
    assert "b.png" in unreadable.row.status
    assert len(failure.reconstruction.mesh.faces) == failure.row.faces == 0
    assert set(unknown.row.values) == {"silhouette_iou", "color_error"}
    for result in (good, unknown):  # a grey ball in place of a disc, on white
        disc_color, share = 2 * np.array([200, 100, 50]) / 255 - 1, float(Five().picture(0).alpha.mean())
        assert result.row.values["color_error"] == pytest.approx(share * (disc_color**2).mean(), abs=0.05)
        assert not any("color_error" in row.values for row in result.references.values())
    assert len(unknown.reconstruction.truth) == 0
    assert len(list(results(Constant(), Five(), PROTOCOL, {}, EvaluationOptions(limit=2)))) == 2


@pytest.mark.slow
def test_no_mesh_outlives_its_object(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, mesh = weakref.WeakSet(), [], Balls.mesh

    def watched(self: Balls, *arguments: Any) -> trimesh.Trimesh:
        gc.collect()
        most.append(len(alive))
        made = mesh(self, *arguments)
        alive.add(made)
        return made

    class Many(Five):
        names = [f"{i}/image/0.png" for i in range(12)]

        def __len__(self) -> int:
            return 12

        def picture(self, index: int) -> ImageSample:
            return Five.picture(self, 0)

    monkeypatch.setattr(Balls, "mesh", watched)
    evaluate(Constant(), Many(), PROTOCOL, tmp_path, EvaluationOptions(["ply"]))
    assert len(most) == 12
    assert max(most) <= 1  # the one before, while the next is made


def test_files_of_an_evaluation(folder: pathlib.Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        *("metrics.csv", "metrics_before.csv", "summary.json", "report.html", "gallery.png", "turntable.png"),
        *("meshes", "truth", "pictures"),
    }
    stems = ["0000_a_0", "0003_d_0", "0004_e_0"]
    assert sorted(path.name for path in (folder / "meshes").iterdir()) == [f"{s}.{t}" for s in stems for t in ("glb", "ply")]
    assert sorted(path.stem for path in (folder / "pictures").iterdir()) == ["0000_a_0", "0002_c_0", *stems[1:]]
    assert sorted(path.stem for path in (folder / "truth").iterdir()) == ["0000_a_0", "0002_c_0", "0004_e_0"]
    after, before = rows_of(folder / "metrics.csv"), rows_of(folder / "metrics_before.csv")
    assert list(after[0]) == ["number", "name", "status", *metric_names(PROTOCOL), "vertices", "faces", "mesh"]
    assert [row["mesh"] for row in after] == [stems[0], "", "", *stems[1:]]
    assert [row["status"].split(":")[0] for row in after] == [row["status"].split(":")[0] for row in before] == STATUSES
    assert float(after[0]["chamfer"]) < float(before[0]["chamfer"])
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["references"]) == ["untrained sphere", "best constant shape", "visual hull"]
    assert summary["references"]["best constant shape"]["chosen_from"] == 4
    assert [summary[key] for key in ("objects", "measured", "failures", "without_truth", "unreadable")] == [5, 2, 1, 1, 1]


def test_without_formats_nothing_is_said_to_be_a_mesh_file(tmp_path: pathlib.Path) -> None:
    evaluate(Constant(), Five(), PROTOCOL, tmp_path, EvaluationOptions((), limit=1))
    (row,) = rows_of(tmp_path / "metrics.csv")
    assert (row["status"], row["mesh"]) == ("ok", "")
    assert int(row["faces"]) > 0
    assert not (tmp_path / "meshes").exists()
    assert not (tmp_path / "metrics_before.csv").exists()


def test_the_report_can_be_made_again_by_the_command(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    again = shutil.copytree(folder, tmp_path / folder.parent.name / folder.name)  # its name is the title
    (again / "report.html").unlink()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        command.evaluate(compose("evaluate", [f"report={again}"]))
    assert (again / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_reports_of_older_folders(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    old = shutil.copytree(folder, tmp_path / folder.parent.name / folder.name)
    summary = json.loads((old / "summary.json").read_text())
    summary["baselines"] = summary.pop("references")
    (old / "summary.json").write_text(json.dumps(summary))
    assert report_evaluation(old).read_bytes() == (folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("summary.json", None, "Expected the folder of an evaluation, got no summary.json in"),
        ("metrics.csv", None, "Expected the folder of an evaluation, got no metrics.csv in"),
        ("summary.json", "{", "Could not read JSON from .*summary.json: .*line 1"),
        ("summary.json", '{"about": {}}', "Expected an evaluation's summary, got none of metrics in .*summary.json"),
        ("metrics.csv", "step,train/loss\n1,2\n", "Expected the columns number, name, status, .*got step, train/loss in"),
    ],
)
def test_other_folders_are_refused_in_one_line(
    folder: pathlib.Path, tmp_path: pathlib.Path, name: str, content: str | None, words: str
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "report.html").unlink()
    (other / name).unlink() if content is None else (other / name).write_text(content)
    with pytest.raises(ValueError, match=words) as error:
        report_evaluation(other)
    assert "\n" not in str(error.value)
    assert not (other / "report.html").exists()


def test_options_are_fixed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EvaluationOptions().limit = 3
    assert math.isnan(Constant().encode(-torch.ones(1, 3, 2, 2)).item())
