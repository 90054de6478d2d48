"""An exported model: half the bytes, the same surfaces but for rounding, facts, nothing of the computer it comes from."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sdfsrn
from sdfsrn.callbacks import SpherePretraining
from sdfsrn.cli import building
from sdfsrn.functional.pointcloud import nearest_distance
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.meshes.rendering import orbit_camera, render_mask
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.train import train
from tiny import MODEL, PICTURES

COMMIT = "0123456789abcdef0123456789abcdef01234567"
METRICS = {"chamfer": {"mean": 0.04, "median": 0.03}, "silhouette_iou": {"mean": 0.8, "median": 0.9}}


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The best checkpoint of a run that was tested; each picture gives a sphere of its own, as large as colours are bright."""
    run = tmp_path_factory.mktemp("somebody") / "run"
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*PICTURES, *MODEL, f"paths.output={run}", f"paths.cache={run}/cache"])
    model = instantiate(config.model)
    SpherePretraining(iterations=300, num_points=256, learning_rate=1e-2).fit(model.hypernetwork)
    content = OmegaConf.to_container(config, resolve=True) | {"git": {"commit": COMMIT, "dirty": False}}
    (run / "checkpoints").mkdir(parents=True)
    path = run / "checkpoints" / "best.ckpt"
    optimizer = [{"state": {0: torch.zeros(10_000)}}]
    torch.save(
        {"state_dict": model.state_dict(), "config": content, "global_step": 70, "optimizer_states": optimizer, "loops": {}},
        path,
    )
    OmegaConf.save(["data.num_rays=64", f"hydra.run.dir={run}", "seed=1"], run / "overrides.yaml")
    (run / ".hydra").mkdir()
    (run / "overrides.yaml").rename(run / ".hydra" / "overrides.yaml")
    (run / "test").mkdir()
    summary = {"about": {"checkpoint": str(path)}, "objects": 12, "metrics": METRICS}
    (run / "test" / "summary.json").write_text(json.dumps(summary))
    return path


@pytest.fixture(scope="module")
def exported(best: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("given") / "new" / "model.ckpt"
    sdfsrn.export(best, path)
    return path


def test_weights_are_rounded_and_all_else_is_kept(best: pathlib.Path, exported: pathlib.Path) -> None:
    model, rounded, stored = sdfsrn.load(best), sdfsrn.load(exported), torch.load(exported, weights_only=True)["state_dict"]
    weights = dict(model.named_parameters())
    assert {str(value.dtype) for name, value in stored.items() if name in weights} == {"torch.float16"}
    assert {str(value.dtype) for name, value in stored.items() if name not in weights} == {"torch.float32", "torch.int64"}
    for name, value in rounded.state_dict().items():
        before = model.state_dict()[name]
        assert value.dtype == before.dtype
        if name in weights:
            torch.testing.assert_close(value, before, rtol=2**-11, atol=2**-25)  # half a unit in the last place
        else:
            assert torch.equal(value, before)
    assert exported.stat().st_size < 2 * sum(w.numel() for w in weights.values()) + 2e5
    assert (rounded.protocol, rounded.preprocessing) == (model.protocol, model.preprocessing)
    assert not rounded.training


def test_surfaces_move_by_a_thousandth_at_most(best: pathlib.Path, exported: pathlib.Path) -> None:
    image = np.zeros((30, 40, 4), np.uint8)
    image[5:25, 10:30] = (200, 40, 30, 255)
    mesh, other = (sdfsrn.reconstruct(image, path, grid=sdfsrn.Grid(48, -1, 1)) for path in (best, exported))
    points = [torch.from_numpy(m.vertices.copy()) for m in (mesh, other)]
    assert float(nearest_distance(*points).mean()) < 1e-3
    masks = [torch.from_numpy(render_mask(m, orbit_camera(mesh, 30, 20), 64) >= 0.5) for m in (mesh, other)]
    assert float(intersection_over_union(*masks)) > 0.98


def test_the_file_tells_how_it_was_made_and_nothing_of_the_computer(best: pathlib.Path, exported: pathlib.Path) -> None:
    config = sdfsrn.load(exported).config
    assert set(config) == {"model", "data", "protocol", "preprocessing", "facts"}
    assert config["facts"] == {
        "steps": 70,
        "commit": COMMIT,
        "command": "python -m sdfsrn.train data.num_rays=64 seed=1",
        "test": {"objects": 12, "chamfer": 0.04, "silhouette_iou": 0.8},
    }
    assert b"somebody" in best.read_bytes()
    assert b"somebody" not in exported.read_bytes()
    assert "cache" not in config["data"]["shapes"]
    assert instantiate(config["data"]).shapes["category"] == "chair"


def test_facts_that_are_not_known_are_left_out(best: pathlib.Path, exported: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = torch.load(best, weights_only=True)
    content["config"]["git"]["dirty"] = True
    last = best.with_name("last.ckpt")  # of the same run; its test was of the best one
    torch.save(content, last)
    sdfsrn.export(last, tmp_path / "last.ckpt")
    facts = sdfsrn.load(tmp_path / "last.ckpt").config["facts"]
    assert set(facts) == {"steps", "commit", "command"}
    assert facts["commit"] == f"{COMMIT} with changes"
    sdfsrn.export(exported, tmp_path / "again.ckpt")  # of an exported model they are kept
    again, once = (torch.load(path, weights_only=True) for path in (tmp_path / "again.ckpt", exported))
    assert again["config"] == once["config"]
    assert all(torch.equal(value, once["state_dict"][name]) for name, value in again["state_dict"].items())


def test_a_weight_beyond_float16_is_named_and_nothing_is_written(best: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = torch.load(best, weights_only=True)
    content["state_dict"]["hypernetwork.branches.0.0.bias"][0] = 7e4
    torch.save(content, tmp_path / "large.ckpt")
    needle = r"^Expected weights that float16 can hold, got 70000 in hypernetwork\.branches\.0\.0\.bias\.$"
    with pytest.raises(ValueError, match=needle):
        sdfsrn.export(tmp_path / "large.ckpt", tmp_path / "small.ckpt")
    assert not (tmp_path / "small.ckpt").exists()


def test_training_does_not_go_on_from_an_exported_model(exported: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"paths.output={tmp_path}", f"ckpt_path={exported}"])
    with pytest.raises(ValueError, match=r"^Expected the checkpoint of a training to go on from, got an exported model in "):
        train(config)


def test_a_model_knows_the_commit_that_it_is_trained_at(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_git_state", lambda: {"git": {"commit": COMMIT, "dirty": False}})
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*PICTURES, *MODEL, f"paths.output={tmp_path}"])
    assert building.build_model(config).description()["git"]["commit"] == COMMIT
