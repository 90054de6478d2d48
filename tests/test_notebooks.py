"""The notebooks run from top to bottom and show pictures; they are committed without outputs."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sdfsrn.callbacks.pretraining import SpherePretraining
from sdfsrn.runtime.configs import config_folder, instantiate

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"
TINY = [
    "data.num_objects=2",
    "data.num_eval_objects=1",
    "data.shapes.views_per_object=2",
    "model.hypernetwork.hidden_width=16",
    "model.hypernetwork.field.width=16",
    "model.encoder.latent_dim=16",
    "protocol.resolution=16",
]


def execute(name: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    """What the cells of a notebook say, run in `folder`; a cell's error is the test's."""
    nbformat = pytest.importorskip("nbformat", reason="NO NOTEBOOK CHECKED: NBFORMAT IS MISSING, PIP INSTALL 'SDFSRN[TEST]'")
    nbclient = pytest.importorskip("nbclient", reason="NO NOTEBOOK CHECKED: NBCLIENT IS MISSING, PIP INSTALL 'SDFSRN[TEST]'")
    pytest.importorskip("ipykernel", reason="NO NOTEBOOK CHECKED: IPYKERNEL IS MISSING, PIP INSTALL 'SDFSRN[TEST]'")
    pytest.importorskip("matplotlib", reason="NO NOTEBOOK CHECKED: MATPLOTLIB IS MISSING, PIP INSTALL 'SDFSRN[TEST]'")
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(outputs: list[dict[str, Any]]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def words(outputs: list[dict[str, Any]]) -> str:
    return "\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("SDFSRN_TINY", "1")
    monkeypatch.setenv("SDFSRN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SDFSRN_CHECKPOINT", raising=False)
    monkeypatch.delenv("SDFSRN_IMAGE", raising=False)
    monkeypatch.setenv("SDFSRN_OUTPUT", str(tmp_path))


def save_checkpoint(path: pathlib.Path, cache: pathlib.Path) -> None:
    """A model that sees a sphere in every picture, as training saves it."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*TINY, "paths.output=unused", f"paths.cache={cache}"])
    model = instantiate(config.model)
    SpherePretraining(iterations=150, num_points=512, learning_rate=1e-3).fit(model.hypernetwork)
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": model.state_dict(), "config": OmegaConf.to_container(config, resolve=True)}, path)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: pathlib.Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_reconstruct_an_image_finds_the_quickstart(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "outputs" / "train" / "2026-01-01_00-00-00"
    save_checkpoint(run / "checkpoints" / "best.ckpt", tmp_path / "cache")
    (tmp_path / "notebooks").mkdir()
    outputs = execute("reconstruct_an_image.ipynb", tmp_path / "notebooks")
    assert pictures(outputs) == 4
    assert "2026-01-01_00-00-00" in words(outputs)
    assert "watertight: True" in words(outputs)
    assert (tmp_path / "reconstruction.glb").stat().st_size > 1000


@pytest.mark.slow
def test_reconstruct_an_image_without_a_checkpoint(tmp_path: pathlib.Path) -> None:
    outputs = execute("reconstruct_an_image.ipynb", tmp_path)
    assert pictures(outputs) == 4
    assert "the package's own model" in words(outputs)
    assert "watertight: True" in words(outputs)


def test_one_training_batch(tmp_path: pathlib.Path) -> None:
    outputs = execute("one_training_batch.ipynb", tmp_path)
    assert pictures(outputs) == 6
    for term in ("silhouette", "ray_surface", "ray_free", "color", "eikonal"):
        assert f"| {term} |" in words(outputs)
    before, after = map(float, re.search(r"\*\*(\S+)\*\* before the step, \*\*(\S+)\*\* after", words(outputs)).groups())
    assert after < before
