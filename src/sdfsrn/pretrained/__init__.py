"""The model that ships with the package, and pictures to try it on; `python -m sdfsrn.pretrained RUN` makes them."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

NAME = "pretrained"  # in place of a file, at the commands' `ckpt_path`
CHECKPOINT = pathlib.Path(__file__).with_name("chair.ckpt")


def pictures() -> list[pathlib.Path]:
    """Pictures with alpha of built-in objects that the model was not trained on."""
    return sorted(CHECKPOINT.parent.glob("*.png"))


def introduction(config: Mapping[str, Any]) -> str:
    """Describe the model in one line, from its configuration as `sdfsrn.export` writes it."""
    facts, category = config["facts"], config["data"]["shapes"]["category"]
    return (
        f"Taking the package's own model: {facts['steps']} steps of `{facts['command']}` at commit {facts['commit'][:7]}. "
        f"It knows the built-in {category}s only: photos of other things give {category}s."
    )
