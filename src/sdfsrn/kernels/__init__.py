"""Triton kernels for CUDA devices; Triton is imported only where one is used."""

from __future__ import annotations

import importlib.util
import os

import torch


def runs_kernels(device: torch.device) -> bool:
    """Whether kernels can run there: on CUDA devices, and anywhere in Triton's interpreter (TRITON_INTERPRET=1), for tests."""
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


def check_kernels(device: torch.device) -> None:
    """Refuse to train with kernels where none can run.

    Raises:
        ValueError: with what to set instead.
    """
    needed = {
        f"a CUDA device (trainer.accelerator=gpu), got {device.type},": runs_kernels(device),
        "the package triton, which torch has with it on Linux,": importlib.util.find_spec("triton") is not None,
    }
    for what, given in needed.items():
        if not given:
            raise ValueError(f"Expected {what} for model.hypernetwork.field.kernel=triton; kernel=plain there trains without.")
