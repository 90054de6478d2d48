"""Data that moved since the training: its new place is told by one key, from any folder."""

from __future__ import annotations

import pathlib
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sdfsrn import evaluate as command
from sdfsrn.cli.building import build_model, plain
from sdfsrn.runtime.configs import config_folder
from tiny import MODEL


@pytest.fixture
def checkpoint(balls: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The checkpoint of a training on `balls` by a relative path; the folder has another name now."""
    monkeypatch.chdir(balls.parent)
    given = [
        "experiment=folder",
        "model/encoder=small",
        "data=shapenet",
        f"data.root={balls.name}",
        "data.num_rays=50",
        f"paths.cache={tmp_path}",
    ]
    given = [*MODEL, *given, f"paths.output={tmp_path}/run"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", given)
    model = build_model(config)
    assert model.config["data"]["root"] == str(balls)
    path = tmp_path / "run" / "seed=1,lr=0.1 (best).ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": model.state_dict(), "config": model.config}, path)
    balls.rename(tmp_path / "new place, [moved]")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return path


def run(monkeypatch: pytest.MonkeyPatch, checkpoint: pathlib.Path, *arguments: str) -> dict | str:
    settings = ["accelerator=cpu", "protocol.resolution=12", "protocol.num_points=50", "mesh_formats=[]", "hydra.run.dir=out"]
    monkeypatch.setattr(sys, "argv", ["evaluate", f"ckpt_path={checkpoint}", *settings, *arguments])
    found: list[dict] = []
    evaluate_split = command.evaluate_split
    monkeypatch.setattr(command, "evaluate_split", lambda *given: found.append(evaluate_split(*given)) or found[0])
    try:
        command.main()
    except SystemExit as error:
        return str(error.code)
    return found[0]


def test_the_new_place_is_enough(checkpoint: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = run(monkeypatch, checkpoint, "data.root=../new place, [moved]", "data.num_models=1")
    assert isinstance(summary, dict), summary
    assert (summary["objects"], summary["unreadable"]) == (1, 0)


def test_without_it_the_message_says_what_to_give(checkpoint: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = run(monkeypatch, checkpoint)
    assert message.startswith(f"error: Expected renderings in {checkpoint.parents[1]}/nmr/02691156, which does not exist")
    assert "data.root" in message


def test_a_setting_that_the_data_does_not_have_is_named(checkpoint: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = run(monkeypatch, checkpoint, "data.rot=x")
    assert "rot" in message
    assert "no such config key" in message


def test_all_paths_of_data_are_stored_absolute(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {
        "root": "a/b",
        "memmap_dir": None,
        "shapes": {"cache": "c", "category": "chair"},
        "intersect_with": "/d",
        "x": "root",
    }
    stored = {"root": f"{tmp_path}/a/b", "memmap_dir": None, "shapes": {"cache": f"{tmp_path}/c", "category": "chair"}}
    assert plain(OmegaConf.create({"data": data, "other": {"root": "a"}})) == {
        "data": {**stored, "intersect_with": "/d", "x": "root"},
        "other": {"root": "a"},
    }
