"""The folders of runs and sweeps: writable, of one process at a time, and new where they are named by the time."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from pytorch_lightning.utilities import rank_zero_only

from sdfsrn.cli.arguments import assign
from sdfsrn.runtime.locks import try_lock

LOCK = ".lock"


class OutputFolder(Callback):
    """Ends the program with one line, before anything is computed, if its folder cannot be used; see `configs/paths`.

    The folder has to be writable, and no other process may run in it. One that is named by the time (`${now:...}`) and is
    there already gets a number: `2030-01-31_12-00-00_2`. Of a training's processes the first one answers for all.

    Args:
        shared: let several processes use one folder, as those of `sdfsrn.tables`, which lock its rows.
    """

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a run."""
        self._start(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a sweep."""
        self._start(config, "sweep")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Reserve the folder of a sweep's job, which may run longer than the sweep's process lives."""
        self._reserve(pathlib.Path(config.hydra.runtime.output_dir))

    def _start(self, config: DictConfig, kind: str) -> None:
        if _is_helper():
            return
        node, key = config.hydra[kind], f"hydra.{kind}.dir"
        try:
            folder = pathlib.Path(node.dir)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if "${now:" in str(OmegaConf.to_container(node, resolve=False)["dir"]):  # type: ignore[index, call-overload]
                folder = _new(folder)
                with read_write(config.hydra), open_dict(config.hydra):
                    node.dir = str(folder)
                    config.hydra.overrides.hydra.append(assign(key, folder))  # from which a sweep's jobs are composed
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(2**16))
        except OSError as error:
            raise SystemExit(f"error: Could not write to the folder {key}={node.dir}: {error.strerror}.") from error
        self._reserve(folder)

    def _reserve(self, folder: pathlib.Path) -> None:
        if not (self.shared or _is_helper() or try_lock(folder / LOCK)):
            raise SystemExit(
                f"error: Expected a folder without a running process, but one runs in {folder}: wait for its end, or choose "
                "another hydra.run.dir."
            )


def _is_helper() -> bool:
    """Whether this is not the first process of a training."""
    return bool(getattr(rank_zero_only, "rank", 0))


def _new(folder: pathlib.Path) -> pathlib.Path:
    """Make the folder, or, where it is there, the first one of `folder`_2, `folder`_3 ... that is not."""
    name, number = folder.name, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}_{number}")
        else:
            return folder
