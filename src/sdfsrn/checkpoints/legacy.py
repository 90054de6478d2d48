"""Configurations of older checkpoints, in today's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdfsrn.data.sources.pascal3d import CROP, CROPS

CLASSES = {"sdfsrn.protocol.Protocol": "sdfsrn.EvaluationProtocol", "sdfsrn.models.FieldShape": "sdfsrn.models.FieldConfig"}
ARGUMENTS = {
    "separate": "balance",
    "reinject": "skip",
    "outline_rays": "boundary_fraction",
    "resident": "on_device",
    "packed": "memmap_dir",
}
DEFAULTS = {"sdfsrn.models.FieldConfig": {"backbone": "fused", "kernel": "plain"}}  # arguments that did not exist
# Losses that took `occupancy`: the class it stood for, and the arguments that it left unused.
OCCUPANCY: dict[str, tuple[str, tuple[str, ...]]] = {
    "sdfsrn.losses.SilhouetteLoss": ("sdfsrn.losses.FreeOccupancyLoss", ()),
    "sdfsrn.losses.RaySurfaceLoss": ("sdfsrn.losses.SurfaceOccupancyLoss", ("margin", "balance")),
    "sdfsrn.losses.RayFreeLoss": ("sdfsrn.losses.VisitedOccupancyLoss", ("margin",)),
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
    size = data.get("image_size", (data.get("shapes") or {}).get("image_size", DEFAULT_SIZE))
    crop, crop_side = data.get("crop"), "longer"
    if str(data.get("_target_")).endswith(".Pascal3DDataModule"):
        crop, crop_side = CROPS.get(data.get("category", ""), CROP)
    return {"image_size": size, "background": data.get("background", 1.0), "crop": crop, "crop_side": crop_side}


def _renamed(node: Any) -> Any:
    if isinstance(node, Mapping):
        arguments: Mapping[str, str] = ARGUMENTS if "_target_" in node else {}
        renamed = {arguments.get(str(key), str(key)): _renamed(value) for key, value in node.items()}
        return _occupancy(DEFAULTS.get(str(renamed.get("_target_")), {}) | renamed)
    if isinstance(node, list | tuple):
        return [_renamed(value) for value in node]
    return CLASSES.get(node, node) if isinstance(node, str) else node


def _occupancy(node: dict[str, Any]) -> dict[str, Any]:
    """The node of a loss without the flag `occupancy`, which today is a class of its own."""
    if node.get("_target_") not in OCCUPANCY or "occupancy" not in node:
        return node
    rest = {key: value for key, value in node.items() if key != "occupancy"}
    if not node["occupancy"]:
        return rest
    name, unused = OCCUPANCY[node["_target_"]]
    return {**{key: value for key, value in rest.items() if key not in unused}, "_target_": name}
