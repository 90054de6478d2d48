"""docs/extending.md does what it says: its files are written and its commands and scripts run in an empty folder."""

from __future__ import annotations

import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest
import trimesh

import sdfsrn

pytestmark = pytest.mark.slow
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An empty folder in which the page was followed from top to bottom."""
    folder = tmp_path_factory.mktemp("extending")
    environment = os.environ | {
        "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        "SDFSRN_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    for language, file, content in BLOCK.findall(PAGE.read_text()):
        if file:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        if language == "bash":
            run(["bash", "-ec", content], folder, environment)
        elif file.startswith("by_"):
            run([sys.executable, file], folder, environment)
    return folder


def run(command: list[str], folder: pathlib.Path, environment: dict[str, str]) -> None:
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]


def test_own_parts_train_evaluate_and_reconstruct_from_the_shell(folder: pathlib.Path) -> None:
    with (folder / "run/csv/metrics.csv").open() as file:
        assert any(row["train/smoothness"] for row in csv.DictReader(file))
    assert (folder / "evaluation/report.html").is_file()
    assert trimesh.load(folder / "meshes/ball.glb", force="mesh").is_watertight


def test_they_close_the_loop_from_python(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trimesh.load(folder / "ball.glb", force="mesh").is_watertight
    monkeypatch.syspath_prepend(folder)
    model = sdfsrn.load(folder / "by_hand.ckpt", trusted=["mine"])
    assert type(model.encoder).__module__ == "mine"
    assert model.preprocessing.image_size == 32
    assert set(model.losses.weights) == {"silhouette", "color", "ray_surface", "ray_free", "eikonal", "smoothness"}
    with pytest.raises(ValueError, match=r"names mine\.SmallEncoder, no class of this package"):
        sdfsrn.load(folder / "by_hand.ckpt")
