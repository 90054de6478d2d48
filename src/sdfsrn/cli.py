"""What the commands share: finding the configs, one-line errors, building objects from configs and checkpoints."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from rich.console import Console
from rich.tree import Tree

from sdfsrn.authors import load_authors_checkpoint
from sdfsrn.checkpoints import check_trusted, find_checkpoint
from sdfsrn.protocol import Protocol
from sdfsrn.signals import leaving
from sdfsrn.system import SDFSRN

USERS_ERRORS = (ValueError, RuntimeError, FloatingPointError, InstantiationException, MissingMandatoryValue, OSError)

log = logging.getLogger(__name__)


def config_folder() -> pathlib.Path:
    """`configs/` of an installed wheel, or of the repository around a source checkout."""
    package = pathlib.Path(__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parents[1] / "configs"


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
                with leaving():
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


def build(config: DictConfig | Mapping[str, Any], **extra: Any) -> Any:
    """The object that a config node describes; lists and dictionaries inside reach it as plain ones."""
    return instantiate(config, _convert_="all", **extra)


def load_model(config: DictConfig) -> tuple[SDFSRN, dict[str, Any]]:
    """The model that `ckpt_path` or `authors_checkpoint` names, in evaluation mode, and the configuration it was trained with.

    Raises:
        ValueError: neither or both given, or a file that is no checkpoint of this package.
    """
    if (config.ckpt_path is None) == (config.authors_checkpoint is None):
        raise ValueError("Expected one of ckpt_path=FILE and authors_checkpoint=FILE.")
    if config.authors_checkpoint is not None:
        return load_authors_checkpoint(config.authors_checkpoint, config.authors_settings), {}
    return load_checkpoint(find_checkpoint(config.ckpt_path, config.paths.root), config.trusted)


def load_protocol(config: Mapping[str, Any] | DictConfig, trained: Mapping[str, Any]) -> Protocol:
    """The protocol that a config node describes; one without `_target_` changes single settings of the training's.

    Where nothing is known of the training, the paper's stands for it.
    """
    given = {str(key): value for key, value in config.items() if value is not None}
    if "_target_" not in given:
        given = {"_target_": "sdfsrn.protocol.Protocol"} | trained.get("protocol", {}) | given
    return build(given)


def load_checkpoint(path: str | pathlib.Path, trusted: Sequence[str] = ()) -> tuple[SDFSRN, dict[str, Any]]:
    """A trained model in evaluation mode, and the configuration in its checkpoint; nothing in the file is executed.

    Model, data and protocol named by the file are built only from this package and from modules in `trusted`.

    Raises:
        ValueError: a file that is no checkpoint of this package, or of another architecture.
    """
    checkpoint = read_checkpoint(path)
    config = checkpoint["config"]
    for part in ("model", "data", "protocol"):
        check_trusted(config.get(part), path, ("sdfsrn", *trusted))
    if not isinstance(config.get("model"), dict) or not isinstance(config["model"].get("encoder"), dict):
        raise ValueError(f"Expected the configuration of a model in {path}, which has none.")
    config["model"]["encoder"]["weights"] = None  # they are in the checkpoint
    model = build(config["model"])
    load_weights(model, checkpoint, path)
    model.config = config
    return model.eval(), config


def load_weights(model: SDFSRN, checkpoint: dict[str, Any], path: str | pathlib.Path) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        ValueError: they belong to another architecture.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"The weights in {path} are of another architecture than this model: {reason}") from error


def read_checkpoint(path: str | pathlib.Path) -> dict[str, Any]:
    """The content of a checkpoint, read with `weights_only=True`.

    Raises:
        ValueError: no file, no checkpoint, or not one of this package.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"Expected a checkpoint at {path}, which does not exist.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"Could not read a checkpoint from {path}: {str(error).splitlines()[0]}") from error
    known = isinstance(checkpoint, dict) and "state_dict" in checkpoint and isinstance(checkpoint.get("config"), dict)
    if not known:
        hint = (
            " It looks like one of the released code: use authors_checkpoint=."
            if isinstance(checkpoint, dict) and "graph" in checkpoint
            else ""
        )
        raise ValueError(f"Expected a checkpoint written by sdfsrn.train in {path}.{hint}")
    return checkpoint


def pick_device(accelerator: str) -> torch.device:
    """`auto`: a GPU if there is one, Apple's included."""
    if accelerator != "auto":
        return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, torch and the loaders' workers."""
    pl.seed_everything(seed, workers=True, verbose=False)


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
