"""Training on several processes is training on one: real processes, gloo, on the CPU."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy
from torch import nn

from sdfsrn.data.batches.datasets import share
from sdfsrn.functional import losses
from sdfsrn.runtime.configs import config_folder, instantiate
from tiny import MODEL, PICTURES

SCRIPT = pathlib.Path(__file__).with_name("sharing.py")
TINY = [
    *PICTURES,
    *MODEL,
    "data.num_objects=4",
    "data.num_eval_objects=3",
    "data.val_objects=3",
    "data.shapes.views_per_object=2",
    "data.batch_size=2",
    "callbacks.pretraining.iterations=100",
    "callbacks.pretraining.num_points=512",
    "trainer=cpu",
    "trainer.devices=2",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "strategy=ddp",
    "protocol.resolution=16",
    "protocol.num_points=500",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def shared(cache: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What sharing.py found, by number of processes and rank."""
    runs = [start([str(SCRIPT), str(processes), str(cache)], cache) for processes in (1, 2)]
    for run in runs:
        output = run.communicate(timeout=600)[0]
        assert run.returncode == 0, output[-3000:]
    return {path.stem: torch.load(path) for path in cache.glob("?-?.pt")}


def start(arguments: list[str], cache: pathlib.Path, cwd: pathlib.Path | None = None) -> subprocess.Popen:
    """Python, without what pytest's own workers and other tests left in the environment."""
    alien = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")
    environment = {name: value for name, value in os.environ.items() if name not in alien}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**environment, "SDFSRN_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", [*overrides, "paths.output=out"])


@pytest.mark.parametrize("variant", ["lstm", "joint", "unused", "occupancy", "fsdp"])
def test_gradients_of_two_halves_are_those_of_the_whole(shared, variant: str) -> None:
    """In one half all rays are inside the silhouette, so that the halves' sums of weights differ as much as they can."""
    whole, half, other = (shared[name]["gradients"][variant] for name in ("1-0", "2-0", "2-1"))
    assert whole.keys() == half.keys()
    assert any(name.startswith("model.hypernetwork.branches.5") for name in whole) == (variant != "unused")
    for name, value in whole.items():
        assert value.norm() > 0, name
        assert (half[name] - value).norm() < 1e-12 * value.norm(), name
        assert torch.equal(half[name], other[name]), name


def test_twenty_steps_of_two_processes_are_those_of_one(shared) -> None:
    whole, half, other = (shared[name]["weights"] for name in ("1-0", "2-0", "2-1"))
    for name, value in whole.items():
        torch.testing.assert_close(half[name], value, rtol=0, atol=1e-10, msg=name)
        assert torch.equal(half[name], other[name]), name


@pytest.mark.parametrize("count", [3, 1])
def test_validation_counts_every_object_once(shared, count: int) -> None:
    """Of three objects one process has two, of one object one has none."""
    whole, half, other = (shared[name]["validation"][count] for name in ("1-0", "2-0", "2-1"))
    assert whole.keys() == {"val/accuracy", "val/coverage", "val/chamfer", "val/failures", "val/iou"}
    assert 0 < whole["val/chamfer"] < 1
    assert 0 < whole["val/iou"] < 1
    assert whole != shared["1-0"]["validation"][4 - count]
    for name, value in whole.items():
        assert half[name] == pytest.approx(value, rel=1e-6), name
        assert half[name] == other[name], name


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_are_disjoint_complete_and_equally_long(cache: pathlib.Path, world_size: int) -> None:
    config = composed("data.num_eval_objects=3", "data.shapes.views_per_object=2", "data.shapes.image_size=24")
    config.paths.cache = str(cache)
    dataset = instantiate(config.data).dataset("val")
    shares = [share(3, rank, world_size) for rank in range(world_size)]
    assert len({len(indices) for indices in shares}) == 1
    found = [int(dataset.views([index]).index) for indices in shares for index in indices]
    assert sorted(index for index in found if index >= 0) == [0, 1, 2]
    assert len(found) < 3 + world_size


def test_one_process_needs_no_group() -> None:
    value, weight = torch.rand(2, 5)
    torch.testing.assert_close(losses.weighted_mean(value, weight), (value * weight).sum() / weight.sum())


def check_run(folder: pathlib.Path) -> None:
    """One folder, one log, nothing twice."""
    (run,) = (folder / "outputs" / "train").iterdir()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert len(list(run.glob("*/config.yaml"))) == len(list(run.rglob("metrics.csv"))) - 1 == 1
    with (run / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for column, steps in {"train/loss": [0, 1, 2, 3], "val/iou": [1, 3], "test/objects": [4]}.items():
        assert [int(row["step"]) for row in rows if row.get(column)] == steps
    assert json.loads((run / "test" / "summary.json").read_text())["objects"] == 3
    assert len(list((run / "test" / "pictures").iterdir())) == 3
    assert {path.name for path in run.glob("pictures/*.png")} == {"step_000002.png", "step_000004.png"}
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.slow
def test_the_command_on_two_processes_leaves_one_folder(cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = start(["-m", "sdfsrn.train", *TINY], cache, tmp_path)
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output[-3000:]
    check_run(tmp_path)
    assert [output.count(text) for text in ("Training: 4/4 steps", "Configuration: ", "Report: file://")] == [1, 1, 1]
    assert "GLOBAL_RANK" not in output


@pytest.mark.slow
def test_torchrun_leaves_one_folder(cache: pathlib.Path, tmp_path: pathlib.Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "sdfsrn.train"]
    run = start([*launcher, *TINY, "hydra.run.dir=outputs/train/shared"], cache, tmp_path)
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output[-3000:]
    check_run(tmp_path)


def test_strategies() -> None:
    assert composed().trainer.strategy == "auto"
    config = composed("strategy=ddp", "trainer=gpu", "trainer.devices=4", "trainer.num_nodes=2").trainer
    assert (config.devices, config.num_nodes, config.sync_batchnorm, config.accelerator) == (4, 2, True, "gpu")
    assert not composed("strategy=ddp", "trainer=cpu").trainer.sync_batchnorm
    assert isinstance(instantiate(config.strategy), DDPStrategy)
    trainer = instantiate(
        composed("trainer=cpu", "trainer.devices=2", "trainer.num_nodes=3", "strategy=ddp").trainer, logger=False
    )
    assert (trainer.world_size, trainer.num_devices, trainer.num_nodes) == (6, 2, 3)


@pytest.mark.parametrize("name", ["cpu", "gpu", "mps"])
def test_trainers(name: str) -> None:
    config = composed(f"trainer={name}").trainer
    assert (config.accelerator, config.devices, config.use_distributed_sampler) == (name, 1, False)


def test_fully_sharded_data_parallelism_wraps_branches_and_stages() -> None:
    """Lightning itself runs it on GPUs alone; torch's part of it is in sharing.py."""
    config = composed("strategy=fsdp", "trainer=gpu", "precision=bf16", "model/encoder=resnet", "model.encoder.weights=null")
    strategy = instantiate(config.trainer.strategy)
    assert isinstance(strategy, FSDPStrategy)
    assert not any(vars(strategy.mixed_precision_config)[name] for name in ("param_dtype", "reduce_dtype", "buffer_dtype"))
    policy = strategy.kwargs["auto_wrap_policy"]
    model: nn.Module = instantiate(config.model)
    wrapped = policy._run_policy(model, set(), {})
    assert {*model.hypernetwork.branches, *(getattr(model.encoder.network, f"layer{i}") for i in (1, 2, 3, 4))} <= set(wrapped)
