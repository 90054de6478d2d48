"""Models from checkpoints, without executing anything from the file."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sdfsrn import pretrained
from sdfsrn.checkpoints.files import check_trusted
from sdfsrn.checkpoints.legacy import modernize
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.files import reading, reason
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)


def load(path: str | pathlib.Path | None = None, trusted: Sequence[str] = (), model: ShapeModel | None = None) -> ShapeModel:
    """A trained model in evaluation mode, with its protocol, preprocessing and configuration.

    Args:
        path: of the checkpoint; read without executing anything from it. None takes the model that ships with the package,
            and says so in the log.
        trusted: modules of yours whose classes the file may name, beside this package's and those in the environment
            variable SDFSRN_TRUSTED (separated by commas).
        model: receives the weights of a file that has no configuration of a model.

    Raises:
        ValueError: a file that is no checkpoint of this package, or of another architecture.
    """
    if path is None:
        return _load_pretrained(model)
    checkpoint = read_checkpoint(path)
    config = checkpoint["config"]
    for part in ("model", "data", "protocol", "preprocessing"):
        check_trusted(config.get(part), path, ("sdfsrn", *trusted, *_trusted_by_environment()))
    if model is None:
        node = config.get("model")
        with reading(path, "a model"):
            model = instantiate(without_downloads(node)) if isinstance(node, dict) else None
        if not isinstance(model, ShapeModel):
            raise ValueError(f"Expected the configuration of a model in {path}, which has none: give a model to load it into.")
    load_weights(model, checkpoint, path)
    with reading(path, "a model"):
        adopt(model, config)
    return model.eval()


def _load_pretrained(model: ShapeModel | None) -> ShapeModel:
    try:
        loaded = load(pretrained.CHECKPOINT, model=model)
    except ValueError as error:
        raise ValueError(f"{error} The file belongs to the package: install sdfsrn again.") from error
    log.warning(pretrained.introduction(loaded.config))
    return loaded


def adopt(model: ShapeModel, config: Mapping[str, Any]) -> None:
    """Set a model's configuration, and its protocol and preprocessing from it."""
    model.config = dict(config)
    if isinstance(config.get("protocol"), Mapping):
        model.protocol = instantiate({"_target_": "sdfsrn.EvaluationProtocol", **config["protocol"]})
    if isinstance(config.get("preprocessing"), Mapping):
        model.preprocessing = instantiate({"_target_": "sdfsrn.data.Preprocessing", **config["preprocessing"]})


def without_downloads(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node of a model without its encoder's initial weights, as where a checkpoint replaces them."""
    encoder = model.get("encoder")
    return {**model, "encoder": {**encoder, "weights": None}} if isinstance(encoder, dict) and "weights" in encoder else model


def _trusted_by_environment() -> list[str]:
    return [name.strip() for name in os.environ.get("SDFSRN_TRUSTED", "").split(",") if name.strip()]


def load_weights(model: ShapeModel, checkpoint: dict[str, Any], path: str | pathlib.Path) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        ValueError: they belong to a model of another class, or of another architecture.
    """
    node = checkpoint["config"].get("model")
    kind = str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, dict) else ""
    if kind and kind != type(model).__name__:
        raise ValueError(f"Expected the weights of {type(model).__name__}, got those of {kind} in {path}: choose that model.")
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except Exception as error:
        first = (str(error).splitlines()[1:] or [reason(error)])[0].strip()
        raise ValueError(f"The weights in {path} are of another architecture than this model: {first}") from error


def read_checkpoint(path: str | pathlib.Path) -> dict[str, Any]:
    """The content of a checkpoint, read with `weights_only=True`.

    Raises:
        ValueError: no file, no checkpoint, or not one of this package.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"Expected a checkpoint at {path}, which does not exist.")
    with reading(path, "a checkpoint"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    known = isinstance(checkpoint, dict) and "state_dict" in checkpoint and isinstance(checkpoint.get("config"), dict)
    if not known:
        hint = (
            " It looks like one of the released code: use authors_checkpoint=."
            if isinstance(checkpoint, dict) and "graph" in checkpoint
            else ""
        )
        raise ValueError(f"Expected a checkpoint written by sdfsrn.train in {path}.{hint}")
    with reading(path, "a configuration"):
        return {**checkpoint, "config": modernize(checkpoint["config"])}
