"""Configurations of older checkpoints, in today's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES = {"sdfsrn.protocol.Protocol": "sdfsrn.EvaluationProtocol", "sdfsrn.models.FieldShape": "sdfsrn.models.FieldConfig"}
ARGUMENTS = {
    "separate": "balance",
    "reinject": "skip",
    "outline_rays": "boundary_fraction",
    "resident": "on_device",
    "packed": "memmap_dir",
}
DEFAULT_SIZE = 64  # pixels of a picture where the data module has no such argument


def modernize(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a checkpoint with today's names of classes and arguments, and with `preprocessing`."""
    config = {key: _renamed(value) for key, value in config.items()}
    if "preprocessing" not in config and isinstance(config.get("data"), dict):
        config["preprocessing"] = _preprocessing(config["data"])
    return config


def _preprocessing(data: Mapping[str, Any]) -> dict[str, Any]:
    """The node of a `Preprocessing`, from the arguments of a data module."""
    shapes = data.get("shapes") or {}
    return {
        "image_size": data.get("image_size", shapes.get("image_size", DEFAULT_SIZE)),
        "background": data.get("background", 1.0),
        "crop": data.get("crop"),
    }


def _renamed(node: Any) -> Any:
    if isinstance(node, Mapping):
        arguments = ARGUMENTS if "_target_" in node else {}
        return {arguments.get(key, key): _renamed(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_renamed(value) for value in node]
    return CLASSES.get(node, node) if isinstance(node, str) else node
