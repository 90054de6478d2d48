"""The configurations that `part=learning` compares: the command's own, and alternatives composed from further overrides."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from sdfsrn.cli.arguments import literal_paths
from sdfsrn.cli.building import build_model
from sdfsrn.data import ViewsDataModule
from sdfsrn.data.source import Source, evenly_spaced
from sdfsrn.evaluation.measuring import TrueShape, read_truth
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.configs import instantiate

BASE = "base"  # the name of the command's own configuration


class Configuration(NamedTuple):
    """A training to compare, and the pictures that measure it."""

    overrides: list[str]  # beside those of the command
    config: DictConfig
    protocol: EvaluationProtocol
    test: Source
    truths: dict[int, TrueShape]  # of the test pictures to measure, by index


def configurations(config: DictConfig) -> dict[str, Configuration]:
    """The command's configuration, as BASE, and those of `config.against`, by name.

    Raises:
        ValueError: settings that cannot be measured, overrides that don't compose, or tests that differ.
    """
    _check(config)
    base = _configuration(config, [])
    found = {BASE: base}
    for name, further in (_plain(config.against) or {}).items():
        found[name] = other = _configuration(_compose(name, further), further)
        if (base.protocol, _names(base)) != (other.protocol, _names(other)):
            raise ValueError(f"Expected one protocol and the same test pictures to compare by, got others with against.{name}.")
    return found


def combined(own: Sequence[str], further: Sequence[str]) -> list[str]:
    """Overrides followed by further ones, which replace those of the same key, so that a config group is chosen once.

    >>> combined(["model/encoder=resnet", "seed=1"], ["model/encoder=mine"])
    ['seed=1', 'model/encoder=mine']
    """
    lines: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides([*own, *further]):
        lines.pop(override.get_key_element(), None)
        lines[override.get_key_element()] = override.input_line or ""
    return list(lines.values())


def given_overrides() -> list[str]:
    """The overrides of the running command."""
    return list(HydraConfig.get().overrides.task)


def _compose(name: str, further: Sequence[str]) -> DictConfig:
    try:
        config = hydra.compose(HydraConfig.get().job.config_name, combined(given_overrides(), literal_paths(further)))
    except (HydraException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"Expected overrides that compose in against.{name}, got {', '.join(further)}: {reason}") from error
    _check(config)
    return config


def _configuration(config: DictConfig, overrides: list[str]) -> Configuration:
    config = copy.deepcopy(config)
    OmegaConf.update(config, "trainer.accelerator", config.accelerator)
    for node in config.callbacks.values():
        if node is not None and "cache" in node:
            node.cache = None  # since the time of pretraining counts
    datamodule: ViewsDataModule = instantiate(config.data)
    datamodule.prepare()
    build_model(config)  # what cannot be built ends the program before any training
    test, protocol = datamodule.source("test"), instantiate(config.protocol)
    indices = evenly_spaced(len(test), config.objects or len(test))
    return Configuration(overrides, config, protocol, test, {index: read_truth(test, index, protocol) for index in indices})


def _names(each: Configuration) -> list[str]:
    """The names of the test pictures to measure."""
    return [each.test.names[index] for index in each.truths]


def _check(config: DictConfig) -> None:
    """Raise ValueError for settings that cannot be measured."""
    seeds, against, devices = (_plain(value) for value in (config.seeds, config.against, config.trainer.devices))
    minutes, objects = config.minutes, config.objects
    conditions = (
        (_are_seeds(seeds), "different whole numbers, such as seeds=[0,1,2]", ["seeds"]),
        (minutes is None or _is_positive(minutes), "minutes above 0, or null for trainer.max_steps", ["minutes"]),
        (
            minutes is not None or config.trainer.max_steps > 0,
            "minutes, or a positive trainer.max_steps",
            ["trainer.max_steps"],
        ),
        (
            _is_positive(config.measurements) and (objects is None or _is_positive(objects)),
            "at least 1",
            ["measurements", "objects"],
        ),
        (against is None or _are_overrides(against), """against='{NAME: ["KEY=VALUE", ...], ...}'""", ["against"]),
        (BASE not in (against or ()), f"other names in against than {BASE}, which is the command's own", ["against"]),
        (_is_one(devices) and config.trainer.num_nodes == 1, "one process", ["trainer.devices", "trainer.num_nodes"]),
    )
    for holds, expected, keys in conditions:
        if not holds:
            got = ", ".join(f"{key}={OmegaConf.select(config, key)}" for key in keys)
            raise ValueError(f"Expected {expected}, got {got}.")


def _are_seeds(value: Any) -> bool:
    whole = isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value)
    return whole and 0 < len(value) == len(set(value))


def _are_overrides(value: Any) -> bool:
    lists = isinstance(value, dict) and all(isinstance(words, list) for words in value.values())
    return lists and all(isinstance(word, str) for words in value.values() for word in words)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _is_one(devices: Any) -> bool:
    return devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value
