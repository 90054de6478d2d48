"""Every model that the tables name composes with every experiment of theirs, and is built."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sdfsrn import DVR, SDFSRN, MeshModel
from sdfsrn.data import ViewsDataModule
from sdfsrn.runtime.configs import config_folder, instantiate

MODELS = {"sdfsrn": SDFSRN, "quick": SDFSRN, "dvr": DVR, "dvr_depth": DVR, "softras": MeshModel, "cmr": MeshModel}
EXPERIMENTS = [
    "quickstart", "airplanes_cpu", "folder", "pascal_synthetic",
    *(f"shapenet_{name}" for name in ("airplane", "car", "chair", "chair_single_view")),
    *(f"pascal_{name}" for name in ("airplane", "car", "chair")),
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_models_compose_with_experiments(experiment: str, model: str) -> None:
    offline = ["model.losses.weights.texture=0"] if model == "cmr" else []
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", f"model={model}", "++data.root=x", "paths.output=o", *offline])
    if "weights" in config.model.encoder:
        config.model.encoder.weights = None
    built = instantiate(config.model, optimizer=instantiate(config.optimizer))
    assert type(built) is MODELS[model]
    built.configure_optimizers()
    data = OmegaConf.to_container(config.data, resolve=True)
    if experiment in ("quickstart", "pascal_synthetic"):
        del data["root"]
    datamodule = instantiate(data)
    assert isinstance(datamodule, ViewsDataModule)
    assert (datamodule.settings.num_rays is None) == built.whole_pictures
    assert datamodule.hull_depth == (model == "dvr_depth")


def test_a_rival_in_the_quickstart_has_its_own_optimizer() -> None:
    """Muon and the warm-up belong to SDF-SRN's quick model; orthogonalizing a rival's large matrices takes minutes."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        own, rival, chosen = (
            compose("train", ["experiment=quickstart", *model]).optimizer._target_
            for model in ([], ["model=softras"], ["optimizer=adam"])
        )
    assert (own, rival, chosen) == ("sdfsrn.optimizers.Muon", "torch.optim.Adam", "torch.optim.Adam")


def test_occupancy_has_no_unit_gradient_with_any_model_of_sdfsrn() -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for model in ("sdfsrn", "quick"):
            config = compose("train", ["experiment=ablation_occupancy", "data=synthetic", f"model={model}"])
            assert config.model.losses.weights.eikonal == 0


def test_airplanes_of_the_paper_keep_their_own_weight() -> None:
    """Section 4.1: lambda_SDF = 1 for airplanes; it is of SDF-SRN alone."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        found = {
            model or "own": compose(
                "train", ["experiment=shapenet_airplane", "data.root=x", *([f"model={model}"] if model else [])]
            )
            for model in (None, "cmr", "sdfsrn")
        }
    assert {name: config.model.losses.weights.silhouette for name, config in found.items()} == {"own": 1, "cmr": 2, "sdfsrn": 3}
