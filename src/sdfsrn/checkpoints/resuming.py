"""Resuming: a run started again in its folder continues from its last checkpoint, or is recognised as finished."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from sdfsrn.checkpoints.loading import read_checkpoint
from sdfsrn.runtime.configs import flatten
from sdfsrn.runtime.files import remove_partial, write_atomically
from sdfsrn.runtime.texts import read_json

# What may differ between the parts of a run: where it runs and what it reports, not what it learns.
RUNTIME_KEYS = (
    "category",  # interpolated into data
    "geometry",  # interpolated into data, model, callbacks
    "trainer",
    "logger",
    "callbacks",
    "paths",
    "protocol",
    "preprocessing",
    "git",
    "test",
    "ckpt_path",
    "optimized_metric",
    "matmul_precision",
    "print_config",
)
RUNTIME_DATA_KEYS = ("root", "num_workers", "preload", "memmap_dir", "hull_folder", "cache", "val_objects")

log = logging.getLogger(__name__)


def unfinished(folder: pathlib.Path, config: Mapping[str, Any]) -> str | None:
    """The last checkpoint in a run's folder, None without one; `config` is the run's, in plain dictionaries.

    Raises:
        ValueError: the folder holds a run with other settings, which this one would overwrite.
    """
    path = folder / "checkpoints" / "last.ckpt"
    remove_partial(path.parent)
    if not path.is_file():
        return None
    before, now = (_settings(c) for c in (read_checkpoint(path)["config"], config))
    missing = object()
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key, missing) != now.get(key, missing))
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(changed[:5])}): choose another hydra.run.dir, or give "
            f"ckpt_path={path} with another hydra.run.dir to go on from it with these."
        )
    return str(path)


def result(folder: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content that `write_result` wrote, None unless it covers all that `config` asks for; its `value` may be None."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    found = read_json(path)
    return found if all(found.get(key) == value for key, value in _asked(config).items()) else None


def write_result(folder: pathlib.Path, config: Mapping[str, Any], value: float | None, step: int) -> None:
    """Record in `result.json` that a run is finished."""
    content = {**_asked(config), "value": value, "step": step}
    write_atomically(folder / "result.json", json.dumps(content, indent=2).encode())


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    trainer = config["trainer"]
    return {
        "optimized_metric": config["optimized_metric"],
        "test": config["test"],
        "max_steps": trainer.get("max_steps"),
        "max_epochs": trainer.get("max_epochs"),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that decide what is learned, by dotted key."""
    learned = flatten({key: value for key, value in config.items() if key not in RUNTIME_KEYS})
    return {key: value for key, value in learned.items() if not _is_runtime(key)}


def _is_runtime(key: str) -> bool:
    return key.startswith("model.validation.") or (key.startswith("data.") and key.rpartition(".")[2] in RUNTIME_DATA_KEYS)
