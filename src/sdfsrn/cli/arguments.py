"""Paths on the command line, taken literally: brackets, commas, quotes and letters of any script need no second quoting."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

LISTS = {"image", "mask", "protocol.rotation"}  # path keys that may have several values
PATH_KEYS = LISTS | {
    *("ckpt_path", "authors_checkpoint", "authors_settings", "report", "models", "export", "poses", "json", "render.lists"),
    *("model.encoder.weights", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"),
}
DATA_PATHS = {"root", "cache", "memmap_dir", "hull_folder", "intersect_with"}  # arguments of data that are files or folders
PATH_NAMES = DATA_PATHS | {"folder", "output", "dirpath", "save_dir", "default_root_dir"}  # of keys at any depth
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z_./][\w./-]*", re.ASCII | re.IGNORECASE)  # Hydra's words as they are
NUMBER = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)")
SWITCHES = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


def literal_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of path keys quoted for Hydra's grammar, and `~` at their start expanded.

    A value that names a file or folder which exists is that path. Of the others these keep Hydra's meaning: null, a quoted
    value, interpolations, a dictionary, a list in brackets at LISTS, and in a sweep alternatives between commas and functions
    such as `choice`. The items of lists and alternatives are literal in turn.

    >>> literal_paths(["image=photos/IMG_1 (2).png", "seed=3", "data.root=shots"])
    ["image='photos/IMG_1 (2).png'", 'seed=3', 'data.root=shots']
    """
    sweep = not SWITCHES.isdisjoint(arguments)
    return [_literal(argument, sweep) for argument in arguments]


def assign(key: str, value: object) -> str:
    r"""The override that sets `key` to any text, quoted for Hydra's grammar.

    >>> assign("data.root", "/data/Chen's (old), v=2")
    "data.root='/data/Chen\\'s (old), v=2'"
    """
    return f"{key}={QuotedString(str(value), Quote.single).with_quotes()}"


def changes_of(group: str, arguments: Sequence[str]) -> list[str]:
    """The arguments with keys of a group added where nothing of the group is chosen: they change what a checkpoint says.

    >>> changes_of("data", ["data.root=shots"]), changes_of("data", ["data=folder", "data.root=shots"])
    (['++data.root=shots'], ['data=folder', 'data.root=shots'])
    """
    if any(argument.lstrip("+").startswith(f"{group}=") for argument in arguments):
        return list(arguments)
    keys = tuple(f"{plus}{group}." for plus in ("", "+", "++"))
    return [f"++{argument.lstrip('+')}" if argument.startswith(keys) else argument for argument in arguments]


def _literal(argument: str, sweep: bool) -> str:
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    if not equals or argument.startswith("-") or not (name in PATH_KEYS or name.rpartition(".")[2] in PATH_NAMES):
        return argument
    return f"{key}={_value(value, name in LISTS, sweep)}"


def _value(value: str, lists: bool, sweep: bool) -> str:
    """A path key's value in Hydra's grammar."""
    if value in ("", "null") or _quoted(value):
        return value
    if _exists(value):
        return _word(value)
    if lists and value.startswith("[") and value.endswith("]"):
        return f"[{_items(value[1:-1])}]"
    if (sweep and SWEEP.fullmatch(value)) or (value.startswith("{") and value.endswith("}")):
        return value
    return _items(value) if sweep else _word(value)


def _items(text: str) -> str:
    """Words between commas, each quoted where it has to be; commas inside quotes divide nothing."""
    words = re.findall(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]+?)\s*(?:,|$)""", text)
    return ",".join(word if _quoted(word) or NUMBER.fullmatch(word) else _word(word) for word in words)


def _word(path: str) -> str:
    path = os.path.expanduser(path)  # noqa: PTH111  # pathlib's raises where there is no such user
    return path if PLAIN.fullmatch(path) else QuotedString(path, Quote.single).with_quotes()


def _quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _exists(value: str) -> bool:
    try:
        return pathlib.Path(os.path.expanduser(value)).exists()  # noqa: PTH111
    except (OSError, ValueError):  # too long a name, a NUL
        return False
