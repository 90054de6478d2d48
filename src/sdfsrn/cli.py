"""What the commands share: finding the configs, one-line errors, building objects from configs and checkpoints."""

from __future__ import annotations

import functools
import os
import pathlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.tree import Tree

from sdfsrn.authors import load_authors_checkpoint
from sdfsrn.protocol import Protocol
from sdfsrn.system import SDFSRN


def config_folder() -> pathlib.Path:
    """`configs/` of an installed wheel, or of the repository around a source checkout."""
    package = pathlib.Path(__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parents[1] / "configs"


def command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """A main function run by Hydra with `configs/<config_name>.yaml`; errors of the user's making end in one line.

    The traceback of those errors appears with HYDRA_FULL_ERROR=1.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @functools.wraps(function)
        def task(config: DictConfig) -> Any:
            torch.set_float32_matmul_precision(config.get("matmul_precision", "highest"))
            try:
                return function(config)
            except (ValueError, RuntimeError, FloatingPointError, InstantiationException, OSError) as error:
                if os.environ.get("HYDRA_FULL_ERROR") == "1" or not (message := user_message(error)):
                    raise
                raise SystemExit(f"error: {message}") from error

        return hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(task)

    return decorate


def user_message(error: BaseException) -> str | None:
    """One line for an error of the user's making, None for a fault of the program's."""
    cause = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, TypeError) and "unexpected keyword" in str(cause):
        return f"{cause}: there is no such config key at {str(error).splitlines()[-1].strip()}; remove it."
    if isinstance(cause, RuntimeError) and "ImageNet" not in str(cause):
        return None
    return " ".join(str(cause).split())


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
    return load_checkpoint(config.ckpt_path, config.trusted)


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
        _check_trusted(config.get(part), path, ("sdfsrn.", *(f"{module}." for module in trusted)))
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
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "config" not in checkpoint:
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


def _check_trusted(config: Any, path: str | pathlib.Path, trusted: tuple[str, ...]) -> None:
    if isinstance(config, Mapping):
        target = str(config.get("_target_", "sdfsrn."))
        if not target.startswith(trusted):
            raise ValueError(
                f"{path} names {target}, which is not of this package: not loaded. If it is yours: trusted=[MODULE]."
            )
        for value in config.values():
            _check_trusted(value, path, trusted)
    elif isinstance(config, list):
        for value in config:
            _check_trusted(value, path, trusted)
