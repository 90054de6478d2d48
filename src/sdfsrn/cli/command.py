"""What the commands share: finding the configs, one-line errors, building objects from configs and checkpoints."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from rich.console import Console
from rich.tree import Tree

from sdfsrn.runtime.configs import config_folder
from sdfsrn.runtime.signals import exit_on_signal

USERS_ERRORS = (ValueError, RuntimeError, FloatingPointError, InstantiationException, MissingMandatoryValue, OSError)

log = logging.getLogger(__name__)


def command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """A main function run by Hydra with `configs/<config_name>.yaml`; errors of the user's making end in one line.

    The traceback of those errors appears with HYDRA_FULL_ERROR=1. In a sweep a job that fails, for whatever reason, takes
    one line on the screen and leaves its traceback in its log; the others run, and the sweep's exit status tells.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @functools.wraps(function)
        def task(config: DictConfig) -> Any:
            torch.set_float32_matmul_precision(config.get("matmul_precision", "highest"))
            try:
                with exit_on_signal():
                    return function(config)
            except Exception as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise _failed_job(error) from error
                if os.environ.get("HYDRA_FULL_ERROR") == "1" or not (message := user_message(error)):
                    raise
                raise SystemExit(f"error: {message}") from error

        return hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(task)

    return decorate


class OutputFolder(Callback):
    """Ends the program in one line, before anything is computed, when its folder cannot be written; see `configs/paths`."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the folder of a run."""
        _check_writable(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Try the folder of a sweep."""
        _check_writable(config.hydra.sweep.dir, "hydra.sweep.dir")


def user_message(error: BaseException) -> str | None:
    """One line for an error of the user's making, None for a fault of the program's."""
    if killed := _killed_worker(error):
        return killed
    if not isinstance(error, USERS_ERRORS):
        return None
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, TypeError) and "unexpected keyword" in str(cause):
        return f"{cause}: there is no such config key at {str(error).splitlines()[-1].strip()}; remove it."
    if isinstance(cause, MissingMandatoryValue):
        return f"Expected {cause.full_key}=..., which has no default."
    message = str(cause)
    if isinstance(cause, RuntimeError) and not message.startswith("Could not download"):
        return None
    if message.startswith("Caught ") and "DataLoader worker" in message:  # then comes the worker's traceback
        message = message.rstrip().splitlines()[-1].partition(": ")[2]
    return " ".join(message.split())


def _killed_worker(error: BaseException) -> str | None:
    """What torch said of a loader's worker that was killed.

    It says so in a signal handler, that is, wherever the program is: the code it interrupts may make another error of it.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, RuntimeError) and str(link).startswith("DataLoader worker"):
            return " ".join(str(link).split())
        link = link.__cause__ or link.__context__
    return None


def print_config(config: DictConfig) -> None:
    """The composed configuration as a tree."""
    tree = Tree("config")
    for key, value in config.items_ex(resolve=False):
        name = str(key)
        text = OmegaConf.to_yaml(value).strip() if OmegaConf.is_config(value) else str(value)
        if "\n" in text or OmegaConf.is_config(value):
            tree.add(name).add(text)
        else:
            tree.add(f"{name}: {text}")
    Console(markup=False).print(tree)


def _check_writable(folder: str, key: str) -> None:
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        raise SystemExit(f"error: Could not write to the folder {key}={folder}: {error.strerror}.") from error


def _failed_job(error: Exception) -> CompactHydraException:
    """Log why a sweep's job failed; what to raise for it, which other processes can read and Hydra prints in one line."""
    message = user_message(error) or " ".join(f"{type(error).__name__}: {error}".split())
    log.error("Job %s failed: %s", HydraConfig.get().job.num, message)
    traceback = log.makeRecord(log.name, logging.ERROR, __file__, 0, "Job failed", (), sys.exc_info())
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(traceback)
    return CompactHydraException(message)
