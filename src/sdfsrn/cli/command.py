"""The commands' common frame: configurations by Hydra, errors in one line, a writable folder, choices that exist."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.tree import Tree

from sdfsrn.cli.arguments import changes_of, literal_paths
from sdfsrn.cli.messages import tidy_messages
from sdfsrn.runtime.configs import config_folder
from sdfsrn.runtime.signals import exit_on_signal

USERS_ERRORS = (ValueError, RuntimeError, FloatingPointError, InstantiationException, MissingMandatoryValue, OSError)

log = logging.getLogger(__name__)


def command(config_name: str, changes: str | None = None) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make a main function that Hydra runs with `configs/<config_name>.yaml`; a user's error ends it with one line.

    Paths are taken literally, see `literal_paths`; keys of the group `changes` as in `changes_of`.

    HYDRA_FULL_ERROR=1 shows the traceback. In a sweep any failure of a job is one line on the screen and a traceback in the
    job's log; the other jobs run, and the sweep's exit status is 1.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @functools.wraps(function)
        def task(config: DictConfig) -> Any:
            tidy_messages()
            torch.set_float32_matmul_precision(config.get("matmul_precision", "highest"))
            try:
                _check_launcher()
                with exit_on_signal():
                    return function(config)
            except Exception as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise _failed_job(error) from error
                if os.environ.get("HYDRA_FULL_ERROR") == "1" or not (message := user_message(error)):
                    raise
                raise SystemExit(f"error: {message}") from error

        run = _accepting_any_help(
            hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(task)
        )

        @functools.wraps(function)
        def main() -> Any:
            arguments = literal_paths(sys.argv[1:])
            sys.argv[1:] = arguments if changes is None else changes_of(changes, arguments)
            return run()

        return main

    return decorate


def _accept(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    """Take any help of an argument."""


# Decorator: Hydra 1.3 gives argparse help that is no text yet, which argparse refuses from Python 3.14 on.
_accepting_any_help = mock.patch.object(argparse.ArgumentParser, "_check_help", _accept, create=True)


def check_choices(key: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError, naming the config key, unless every choice is known."""
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise ValueError(f"Expected {key} of {', '.join(known)}, got {', '.join(unknown)}.")


def user_message(error: BaseException) -> str | None:
    """The line to show for an error that a user can correct, None for a fault of the program."""
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
    """Torch's message about a loader's worker that was killed, None for other errors.

    Torch raises it in a signal handler, at any line of the program; the interrupted code may turn it into another error.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, RuntimeError) and str(link).startswith("DataLoader worker"):
            return " ".join(str(link).split())
        link = link.__cause__ or link.__context__
    return None


@rank_zero_only
def show_config(config: DictConfig) -> None:
    """Log where the composed configuration is written; with its key `print_config`, print it as a tree."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is not None and hydra.output_subdir is not None:
        log.info("Configuration: %s", pathlib.Path(hydra.runtime.output_dir, hydra.output_subdir, "config.yaml"))
    if not config.print_config:
        return
    tree = Tree("config")
    for key, value in config.items_ex(resolve=False):
        name = str(key)
        text = OmegaConf.to_yaml(value).strip() if OmegaConf.is_config(value) else str(value)
        if "\n" in text or OmegaConf.is_config(value):
            tree.add(name).add(text)
        else:
            tree.add(f"{name}: {text}")
    Console(markup=False).print(tree)


def _check_launcher() -> None:
    """Raise ValueError for a launcher outside of a sweep, where Hydra ignores it."""
    launcher = HydraConfig.get().runtime.choices.get("hydra/launcher")
    if HydraConfig.get().mode == RunMode.RUN and launcher != "basic":
        raise ValueError(f"Expected -m with launcher={launcher}: without it there are no jobs to launch.")


def _failed_job(error: Exception) -> CompactHydraException:
    """Log why a sweep's job failed; the exception to raise, which can be pickled and which Hydra prints in one line."""
    message = user_message(error) or " ".join(f"{type(error).__name__}: {error}".split())
    log.error("Job %s failed: %s", HydraConfig.get().job.num, message)
    traceback = log.makeRecord(log.name, logging.ERROR, __file__, 0, "Job failed", (), sys.exc_info())
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(traceback)
    return CompactHydraException(message)
