"""Every experiment file composes and instantiates; the configs and constructors agree."""

from __future__ import annotations

import pathlib

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from sdfsrn import SDFSRN
from sdfsrn.cli import build, config_folder, load_protocol
from sdfsrn.data import ViewsDataModule
from sdfsrn.models import SphereTracer
from sdfsrn.protocol import Protocol

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))


def composed(*overrides: str, name: str = "train") -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(
            name, [*overrides, "paths.output=out", "model.encoder.weights=null"] if name == "train" else list(overrides)
        )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_instantiate(experiment: str, tmp_path: pathlib.Path) -> None:
    root = [] if experiment in ("quickstart", "pascal_synthetic") else [f"data.root={tmp_path}"]
    config = composed(f"experiment={experiment}", *root)
    model = build(config.model, optimizer=build(config.optimizer), scheduler=config.scheduler and build(config.scheduler))
    assert isinstance(model, SDFSRN)
    assert isinstance(build(config.data), ViewsDataModule)
    assert isinstance(model.configure_optimizers()["optimizer"], torch.optim.Adam)
    for callback in config.callbacks.values():
        instantiate(callback)


def test_paper_defaults() -> None:
    config = composed("experiment=shapenet_chair", "data.root=x")
    assert (config.optimizer.lr, config.data.batch_size, config.data.num_rays) == (1e-4, 16, 1024)
    assert config.model.losses.terms.silhouette.num_samples == 5
    assert config.model.losses.terms.ray_surface.margin == 0.01
    assert dict(config.model.losses.weights) == {
        "silhouette": 3, "color": 1, "ray_surface": 1, "ray_free": 0.1, "eikonal": 0.01,
    }  # fmt: skip
    assert config.callbacks.pretraining.iterations == 2000
    assert (config.model.hypernetwork.num_hidden, config.model.hypernetwork.hidden_width) == (6, 512)
    assert composed("experiment=shapenet_airplane", "data.root=x").model.losses.weights.silhouette == 1
    assert composed("experiment=shapenet_chair", "data.root=x").trainer.max_steps == 200_000
    pascal = composed("experiment=pascal_synthetic")
    assert (pascal.model.losses.weights.color, pascal.model.losses.weights.eikonal) == (10, 1)
    assert (pascal.model.hypernetwork.num_hidden, pascal.model.hypernetwork.hidden_width) == (2, 256)
    assert (pascal.geometry.near, pascal.trainer.max_steps, pascal.data.jitter) == (1.2, 30_000, True)


@pytest.mark.parametrize("override", ["model/losses=occupancy", "model/raymarcher=sphere_tracer", "geometry=orthographic"])
def test_parts_swap(override: str) -> None:
    model = build(composed(override).model)
    assert isinstance(model, SDFSRN)
    assert isinstance(model.raymarcher, SphereTracer) == (override == "model/raymarcher=sphere_tracer")


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_encoders(depth: int) -> None:
    config = composed(f"model.encoder.depth={depth}", "model.encoder.latent_dim=24")
    model = build(config.model).eval()
    assert model.encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 24)


@pytest.mark.parametrize("name", ["evaluate", "reconstruct"])
def test_other_commands_take_the_protocol_of_the_training(name: str) -> None:
    trained = {"protocol": {"_target_": "sdfsrn.protocol.Protocol", "resolution": 99, "icp_iterations": 3}}
    assert load_protocol(composed(name=name).protocol, trained) == Protocol(resolution=99, icp_iterations=3)
    assert load_protocol(composed(name=name).protocol, {}) == Protocol()
    changed = load_protocol(composed("protocol.resolution=40", name=name).protocol, trained)
    assert changed == Protocol(resolution=40, icp_iterations=3)
    assert load_protocol(composed("protocol=authors", name=name).protocol, trained) == Protocol(placement="authors")
    pascal = load_protocol(composed("protocol=pascal3d", name=name).protocol, trained)
    assert (pascal.icp_iterations, pascal.resolution) == (50, 128)


@pytest.mark.parametrize("category", ["airplane", "car", "chair"])
def test_pascal_defaults(category: str) -> None:
    """Section 4.2 and appendix B.2."""
    config = composed(f"experiment=pascal_{category}", "data.root=x")
    assert (config.model.losses.weights.color, config.model.losses.weights.eikonal) == (10, 1)
    assert (config.model.hypernetwork.num_hidden, config.model.hypernetwork.hidden_width) == (2, 256)
    assert (config.trainer.max_steps, config.data.batch_size, config.data.category) == (30_000, 16, category)
    assert (config.data.jitter, config.data.scale_jitter) == (True, 0.2)
    assert (config.protocol.icp_iterations, config.model.validation.icp_iterations) == (50, 50)
    assert config.model.validation.low == config.protocol.low < -1
