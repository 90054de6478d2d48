"""Every experiment file composes and instantiates; the configs and constructors agree."""

from __future__ import annotations

import dataclasses
import pathlib
import types

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from sdfsrn import SDFSRN
from sdfsrn.cli.loading import load_protocol
from sdfsrn.data import ViewsDataModule
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models import SphereTracer
from sdfsrn.optimizers import Muon
from sdfsrn.runtime.configs import config_folder, instantiate

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))


def composed(*overrides: str, name: str = "train") -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose(name, [*overrides, "paths.output=out"] if name == "train" else list(overrides))
    if name == "train" and "weights" in config.model.encoder:
        config.model.encoder.weights = None  # nothing is downloaded
    return config


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_instantiate(experiment: str, tmp_path: pathlib.Path) -> None:
    root = [] if experiment in ("quickstart", "no_poses", "pascal_synthetic") else [f"data.root={tmp_path}"]
    config = composed(f"experiment={experiment}", *root)
    model = instantiate(
        config.model, optimizer=instantiate(config.optimizer), scheduler=config.scheduler and instantiate(config.scheduler)
    )
    assert isinstance(model, SDFSRN)
    assert isinstance(instantiate(config.data), ViewsDataModule)
    assert isinstance(model.configure_optimizers()["optimizer"], torch.optim.Adam | Muon)
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
    model = instantiate(composed(override).model)
    assert isinstance(model, SDFSRN)
    assert isinstance(model.raymarcher, SphereTracer) == (override == "model/raymarcher=sphere_tracer")


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_encoders(depth: int) -> None:
    config = composed(
        "model/encoder=resnet", "model.encoder.weights=null", f"model.encoder.depth={depth}", "model.encoder.latent_dim=24"
    )
    model = instantiate(config.model).eval()
    assert model.encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 24)


@pytest.mark.parametrize("name", ["evaluate", "reconstruct"])
def test_other_commands_take_the_protocol_of_the_training(name: str) -> None:
    trained, fresh = (
        types.SimpleNamespace(protocol=p) for p in (EvaluationProtocol(resolution=99, icp_iterations=3), EvaluationProtocol())
    )
    assert load_protocol(composed(name=name).protocol, trained) == EvaluationProtocol(resolution=99, icp_iterations=3)
    assert load_protocol(composed(name=name).protocol, fresh) == EvaluationProtocol()
    changed = load_protocol(composed("protocol.resolution=40", name=name).protocol, trained)
    assert changed == EvaluationProtocol(resolution=40, icp_iterations=3)
    assert load_protocol(composed("protocol=authors", name=name).protocol, trained) == EvaluationProtocol(placement="authors")
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


def leaves(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict) or not node:
        return {prefix[:-1]: node}
    return {key: value for name, part in node.items() for key, value in leaves(part, f"{prefix}{name}.").items()}


def difference(experiment: str, other: str) -> dict[str, tuple[object, object]]:
    """What differs between two experiments, by dotted key; None where there is no such key."""
    first, second = (
        leaves(OmegaConf.to_container(composed(f"experiment={name}", "++data.root=x"))) for name in (experiment, other)
    )
    keys = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    return {key: (first.get(key), second.get(key)) for key in keys}


def test_validation_is_the_protocol_on_a_coarser_grid() -> None:
    for experiment in EXPERIMENTS:
        config = composed(f"experiment={experiment}", "++data.root=x", "protocol.alignment=yaw")
        validation, protocol = (instantiate(node) for node in (config.model.validation, config.protocol))
        finer = {name: getattr(protocol, name) for name in ("resolution", "num_points", "num_truth")}
        assert dataclasses.replace(validation, **finer) == protocol


def test_the_category_and_the_cameras_of_an_experiment_reach_the_built_in_data() -> None:
    def shapes(*overrides: str) -> tuple[str, str]:
        config = composed(*overrides)
        return config.data.shapes.category, config.data.shapes.projection

    assert shapes() == ("chair", "perspective")
    assert shapes("data.shapes.category=airplane") == ("airplane", "perspective")
    assert shapes("experiment=pascal_car", "data=synthetic") == ("car", "orthographic")
    assert shapes("experiment=shapenet_airplane", "data=synthetic") == ("airplane", "perspective")
    assert composed("experiment=shapenet_car", "data.root=x", "data.category=04379243").data.category == "04379243"
    assert composed("data=shapenet", "data.root=x", name="evaluate").data.category == "airplane"


def test_ablations_change_one_thing() -> None:
    """Table 3; the full model is Table 1's."""
    assert difference("ablation_full", "shapenet_chair") == {}
    assert difference("ablation_no_rgb", "ablation_full") == {"model.losses.weights.color": (0, 1)}
    assert difference("ablation_no_positional_encoding", "ablation_full") == {
        "model.hypernetwork.field.num_frequencies": (0, 6)
    }
    assert difference("ablation_no_importance", "ablation_full") == {
        f"model.losses.terms.{term}.importance": (False, True) for term in ("ray_surface", "silhouette")
    }
    changed = difference("ablation_occupancy", "ablation_full")
    assert all(key.startswith("model.losses.") for key in changed)
    terms = composed("experiment=ablation_occupancy", "data.root=x").model.losses.terms
    kinds = [terms[name]._target_.split(".")[-1] for name in ("silhouette", "ray_surface", "ray_free")]
    assert kinds == ["FreeOccupancyLoss", "SurfaceOccupancyLoss", "VisitedOccupancyLoss"]
    assert changed["model.losses.weights.eikonal"] == (0, 0.01)
    assert not {key for key in changed if key.startswith("model.losses.weights")} - {"model.losses.weights.eikonal"}


def test_no_poses_changes_the_treatment_of_poses() -> None:
    changed = difference("no_poses", "quickstart")
    poses = {key for key in changed if key.startswith("model.pose")}
    assert changed["model.pose._target_"] == ("sdfsrn.models.PoseCandidates", "sdfsrn.models.GivenPose")
    assert set(changed) - poses == {
        "callbacks.best.monitor", "callbacks.best.mode", "optimized_metric", "trainer.max_steps",
    }  # fmt: skip
    config = composed("experiment=no_poses")
    assert (config.model.pose.near, config.model.pose.far, config.model.pose.mirror) == (2.0, 3.5, True)


def test_importance_is_off_in_its_ablation_and_on_in_the_others() -> None:
    for name in ("full", "no_rgb", "no_positional_encoding", "occupancy", "no_importance"):
        terms = instantiate(composed(f"experiment=ablation_{name}", "data.root=x").model).losses.terms
        weighted = {key: term.importance for key, term in terms.items() if hasattr(term, "importance")}
        assert weighted == {"silhouette": name != "no_importance", "ray_surface": name != "no_importance", "ray_free": False}


def test_single_views() -> None:
    """Section 4.1: one picture a chair, 50K iterations, colour jitter and no other."""
    assert difference("shapenet_chair_single_view", "shapenet_chair") == {
        "data.jitter": (True, False), "data.views": ("one", "all"), "trainer.max_steps": (50_000, 200_000),
    }  # fmt: skip
    for number in (500, 1000, 2000, "all"):
        override = f"data.num_models={number}"
        assert composed("experiment=shapenet_chair_single_view", "data.root=x", override).data.num_models == number


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name.startswith(("shapenet", "ablation"))])
def test_shapenet_experiments_on_the_models_of_version_2(experiment: str, balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Table 5: any of them with `data.intersect_with`."""
    (tmp_path / "v2" / "02691156" / "b").mkdir(parents=True)
    data = [f"data.root={balls}", f"data.intersect_with={tmp_path / 'v2'}", "data.category=airplane"]
    source = instantiate(composed(f"experiment={experiment}", *data).data).source("train")
    assert source.counts == {"models listed": 2, "models": 1}
    assert len(source) == (1 if "single_view" in experiment else 3)


@pytest.mark.parametrize(
    ("name", "group"),
    [*(("train", group) for group in ("debug", "hparams_search", "launcher", "experiment")), ("evaluate", "data")],
)
def test_a_misspelt_choice_is_not_passed_over(name: str, group: str) -> None:
    with pytest.raises(MissingConfigException, match=f"Could not find '{group}/misspelt'"):
        composed(f"{group}=misspelt", name=name)


@pytest.mark.parametrize("debug", ["fast", "overfit", "profiler", "anomaly"])
def test_debug_presets(debug: str) -> None:
    assert isinstance(instantiate(composed(f"debug={debug}", "trainer=cpu").trainer, logger=False), pl.Trainer)
