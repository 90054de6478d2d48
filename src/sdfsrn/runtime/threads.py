"""How long OpenMP's idle threads spin; set before torch loads its OpenMP library, which reads it once."""

from __future__ import annotations

import os
import sys

SPIN_COUNT = "10000"  # iterations; GNU OpenMP's default of 30 billion starves every other program on the machine
CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # environment variables, of which either decides


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT for this process and its children, unless one of CHOICES is set or torch is already loaded."""
    if "torch" not in sys.modules and not any(name in os.environ for name in CHOICES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def spinning() -> dict[str, str]:
    """The environment variables among CHOICES that are set, with their values."""
    return {name: os.environ[name] for name in CHOICES if name in os.environ}
