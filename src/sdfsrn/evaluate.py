"""python -m sdfsrn.evaluate ckpt_path=... [data=...]: measure a trained model on a split."""

from __future__ import annotations

import pathlib
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sdfsrn.cli import build, command, load_model, load_protocol, pick_device, seed_everything
from sdfsrn.data import ViewsDataModule
from sdfsrn.evaluation import evaluate as evaluate_split


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Evaluate as configured; the summary."""
    seed_everything(config.seed)
    model, trained = load_model(config)
    datamodule = _datamodule(config, trained)
    datamodule.prepare()
    return evaluate_split(
        model.to(pick_device(config.accelerator)),
        datamodule.dataset(config.split),
        load_protocol(config.protocol, trained),
        pathlib.Path(config.paths.output),
        config.mesh_formats,
        config.limit,
        reference=datamodule.dataset("val"),
    )


def _datamodule(config: DictConfig, trained: dict[str, Any]) -> ViewsDataModule:
    if config.get("data") is not None:
        return build(config.data)
    if "data" not in trained:
        raise ValueError("Expected data=..., since this checkpoint does not say what it was trained on.")
    return build(OmegaConf.create(trained["data"]))


main = command("evaluate")(evaluate)

if __name__ == "__main__":
    main()
