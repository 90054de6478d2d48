"""The model, the evaluation protocol and the device of a command, from its configuration."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from sdfsrn import pretrained
from sdfsrn.checkpoints.authors import load_authors_checkpoint
from sdfsrn.checkpoints.files import find_checkpoint
from sdfsrn.checkpoints.loading import load
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.texts import read_json
from sdfsrn.system import ShapeModel


def load_model(config: DictConfig) -> ShapeModel:
    """The model of `ckpt_path` or `authors_checkpoint`, in evaluation mode, on the device of `accelerator`.

    Raises:
        ValueError: neither or both given, or a file that is no checkpoint of this package.
    """
    if config.authors_checkpoint is None and config.authors_settings is not None:
        raise ValueError(f"Expected authors_checkpoint=FILE with authors_settings={config.authors_settings}.")
    if config.authors_checkpoint is not None and config.ckpt_path in (None, pretrained.NAME):
        model: ShapeModel = load_authors_checkpoint(config.authors_checkpoint, config.authors_settings)
    elif config.authors_checkpoint is None and config.ckpt_path:
        path = None if is_pretrained(config) else find_checkpoint(config.ckpt_path, config.paths.root)
        model = load(path, config.trusted)
    else:
        raise ValueError(
            f"Expected one of ckpt_path=FILE and authors_checkpoint=FILE; ckpt_path={pretrained.NAME} is the package's own."
        )
    return model.to(pick_device(config.accelerator))


def is_pretrained(config: DictConfig) -> bool:
    """Whether `load_model` takes the package's own model."""
    return config.ckpt_path == pretrained.NAME and config.authors_checkpoint is None


def data_node(config: DictConfig, trained: Mapping[str, Any]) -> DictConfig | None:
    """The data set that the command chooses, else that of the training with the command's changes; None if nothing says one.

    `trained` is the configuration in a checkpoint; the changes are what `data` holds without choosing a data set.
    """
    given = OmegaConf.create(config.get("data") or {})
    if "_target_" in given or "data" not in trained:
        return given if "_target_" in given else None
    return cast(DictConfig, OmegaConf.merge(trained["data"], given))


def load_protocol(config: Mapping[str, Any] | DictConfig, model: ShapeModel) -> EvaluationProtocol:
    """The protocol that a config node describes; one without `_target_` changes single settings of the model's own.

    A `rotation` may be a JSON file with 9 numbers, or 3 rows of 3, under `world_rotation`.

    Raises:
        ValueError: settings that cannot be, or a file without a rotation.
    """
    changes = {str(key): value for key, value in config.items() if value is not None}
    if isinstance(changes.get("rotation"), str):
        changes["rotation"] = _read_rotation(pathlib.Path(changes["rotation"]))
    return instantiate(changes) if "_target_" in changes else dataclasses.replace(model.protocol, **changes)


def _read_rotation(path: pathlib.Path) -> list[float]:
    try:
        values = [float(value) for value in np.reshape(read_json(path)["world_rotation"], 9)]
        EvaluationProtocol(rotation=values)  # which refuses numbers that are no rotation
        return values
    except Exception as error:
        raise ValueError(
            f"Expected a JSON file with 9 numbers as world_rotation, a rotation, at protocol.rotation={path}."
        ) from error


def pick_device(accelerator: str) -> torch.device:
    """The device of a Lightning accelerator; `auto` is a GPU, Apple's included, if there is one, else the CPU."""
    if accelerator != "auto":
        return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
