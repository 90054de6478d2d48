"""Checkpoint files: atomic writes, lookup by name, and an allow-list for the classes they may instantiate."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import get_object
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.types import _PATH

from sdfsrn.runtime.files import replacing

NAMES = ("last", "best")


def find_checkpoint(path: str, root: str | pathlib.Path, own: pathlib.Path | None = None) -> str:
    """The file that `ckpt_path` names: itself, or for `last` and `best` that of this run, else of the newest run.

    Args:
        path: a file, or one of the two words.
        root: folder of the runs of all commands.
        own: this run's folder.

    Raises:
        ValueError: no run has such a checkpoint.
    """
    if path not in NAMES:
        return path
    name = f"checkpoints/{path}.ckpt"
    if own is not None and (own / name).is_file():
        return str(own / name)
    found = list(pathlib.Path(root).rglob(name))
    if not found:
        raise ValueError(f"Expected a run with a checkpoint for ckpt_path={path}, found none in {root}.")
    return str(max(found, key=lambda file: file.stat().st_mtime))


def check_trusted(config: Any, path: str | pathlib.Path, trusted: Sequence[str]) -> None:
    """Refuse a configuration from a file unless it builds objects of trusted classes only.

    Every `_target_` must be a class that is defined in a trusted module, not only imported there; no string may hold an
    interpolation.

    Raises:
        ValueError: naming the file, and what was found in it.
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            _check_target(str(config["_target_"]), path, trusted)
        for value in config.values():
            check_trusted(value, path, trusted)
    elif isinstance(config, list | tuple):
        for value in config:
            check_trusted(value, path, trusted)
    elif isinstance(config, str) and "${" in config:
        raise ValueError(f"{path} holds the interpolation {config}: not loaded.")


def _check_target(name: str, path: str | pathlib.Path, trusted: Sequence[str]) -> None:
    inside = tuple(f"{module}." for module in trusted)
    try:
        found = get_object(name) if name.startswith(inside) else None
    except ImportError:
        found = None
    if not (isinstance(found, type) and f"{found.__module__}.".startswith(inside)):
        raise ValueError(f"{path} names {name}, no class of this package: not loaded. If it is yours: trusted=[MODULE].")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, waits for the disk, and moves into place: a crash at any moment leaves the previous file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it could not be written, for want of space or rights; what was at `path` before is still there.
        """
        path = pathlib.Path(path)
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError when a write falls short
            reason = next((e.strerror for e in (error, error.__context__) if isinstance(e, OSError)), None) or error
            kept = f"; the checkpoint before it is intact in {path}" if path.is_file() else ""
            raise OSError(f"Could not write a checkpoint to {path}: {reason}{kept}.") from error
