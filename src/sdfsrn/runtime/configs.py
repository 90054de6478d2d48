"""The package's configurations: where they are, objects from nodes, nodes from objects, leaves by dotted key."""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import hydra.utils
from omegaconf import DictConfig

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def config_folder() -> pathlib.Path:
    """`configs/` of an installed wheel, or of the repository around a source checkout."""
    package = pathlib.Path(__file__).parents[1]
    return package / "configs" if (package / "configs").is_dir() else package.parents[1] / "configs"


def instantiate(config: DictConfig | Mapping[str, Any], **extra: Any) -> Any:
    """Build the object that a config node describes; lists and dictionaries inside reach it as plain ones."""
    return hydra.utils.instantiate(config, _convert_="all", **extra)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries, by dotted key; an empty dictionary is a leaf.

    >>> flatten({"data": {"root": "here", "shapes": {}}, "seed": 0})
    {'data.root': 'here', 'data.shapes': {}, 'seed': 0}
    """
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    parts = (flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items())
    return {key: value for part in parts for key, value in part.items()}


def describe(thing: Any, leave_out: Sequence[str] = ()) -> Any:
    """The config node, in plain dictionaries and lists, from which `instantiate` builds an equal object without its weights.

    Constructor arguments are read from attributes of the same names, as in scikit-learn's `get_params`; `leave_out` names
    those of `thing` itself that keep their defaults.

    Raises:
        ValueError: an object that keeps no attribute for one of its arguments, or whose class cannot be imported by name.
    """
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, pathlib.Path):
        return str(thing)
    if hasattr(thing, "items"):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple) and not hasattr(thing, "_fields"):
        return [describe(value) for value in thing]
    kind, node = type(thing), {"_target_": public_name(type(thing))}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in leave_out or parameter.kind in _VARIADIC:
            continue
        if not hasattr(thing, name):
            raise ValueError(
                f"Expected {kind.__name__} to keep its argument `{name}` as an attribute of that name, so that a checkpoint "
                "can say how it was built."
            )
        node[name] = describe(getattr(thing, name))
    return node


def public_name(kind: type) -> str:
    """The dotted name of a class, by the uppermost package that exports it.

    >>> public_name(type(pathlib.PurePath().parents))
    'pathlib._PathParents'

    Raises:
        ValueError: a class that is defined inside a function.
    """
    if "<locals>" in kind.__qualname__:
        raise ValueError(f"Expected classes of modules, got {kind.__qualname__}, which no checkpoint can name.")
    parts = kind.__module__.split(".")
    packages = (".".join(parts[: i + 1]) for i in range(len(parts)))
    shortest = next((p for p in packages if getattr(sys.modules.get(p), kind.__name__, None) is kind), kind.__module__)
    return f"{shortest}.{kind.__qualname__}"
