"""Small checkpoints for others: a model's weights in float16, what it needs to load, and facts about its training."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from sdfsrn.checkpoints.files import AtomicCheckpointIO
from sdfsrn.checkpoints.loading import load, read_checkpoint

KEPT = ("model", "data", "protocol", "preprocessing")  # of the configuration
LOCAL = (
    "cache",
    "memmap_dir",
    "hull_folder",
)  # arguments of data that name folders of one computer; their defaults do elsewhere


def export(path: str | pathlib.Path, output: str | pathlib.Path, trusted: Sequence[str] = ()) -> None:
    """Write a model that `sdfsrn.load` reads into a file of two bytes per weight, atomically.

    Buffers and whole numbers stay as they are. Optimizer, loops, callbacks and settings that only trainings need are left
    out. `config["facts"]` tells `steps`, `commit`, the `command` and the means of `test/summary.json`, where they are known.

    Args:
        path: of a checkpoint; in `<run>/checkpoints`, facts are read from the run's folder.
        output: the new file.
        trusted: as in `sdfsrn.load`.

    Raises:
        ValueError: a file that is no checkpoint of this package, or a weight that float16 cannot hold.
        OSError: the file could not be written.
    """
    path, model, checkpoint = pathlib.Path(path), load(path, trusted), read_checkpoint(path)
    weights = {name for name, _ in model.named_parameters()}
    state = {name: _half(value, name) if name in weights else value for name, value in model.state_dict().items()}
    config = {key: _portable(value) for key, value in model.description().items() if key in KEPT}
    config["facts"] = {**checkpoint["config"].get("facts", {}), **_facts(path, checkpoint)}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, "config": config}, output)


def _half(weight: Tensor, name: str) -> Tensor:
    half = weight.half()
    if not half.isfinite().all():
        raise ValueError(f"Expected weights that float16 can hold, got {float(weight.abs().max()):g} in {name}.")
    return half


def _portable(node: Any) -> Any:
    """The node without the arguments in LOCAL."""
    if isinstance(node, Mapping):
        return {key: _portable(value) for key, value in node.items() if key not in LOCAL}
    return node


def _facts(path: pathlib.Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Steps, commit, command and test means of a training, as far as its checkpoint and folder have them."""
    run, facts = path.resolve().parent.parent, {}
    if "global_step" in checkpoint:
        facts["steps"] = checkpoint["global_step"]
    if git := checkpoint["config"].get("git"):
        facts["commit"] = git["commit"] + (" with changes" if git["dirty"] else "")
    if (overrides := run / ".hydra" / "overrides.yaml").is_file():
        given = [str(word) for word in OmegaConf.load(overrides)]
        told = [word for word in given if not word.startswith(("hydra.", "paths."))]
        facts["command"] = shlex.join(["python", "-m", "sdfsrn.train", *told])
    if (summary := run / "test" / "summary.json").is_file():
        found = json.loads(summary.read_text())
        if pathlib.Path(str(found["about"].get("checkpoint"))).name == path.name:
            facts["test"] = {"objects": found["objects"], **{name: value["mean"] for name, value in found["metrics"].items()}}
    return facts
