"""Loss terms compiled by TorchInductor: `compile=inductor`."""

from __future__ import annotations

import os
import shutil

import pytorch_lightning as pl
import torch

from sdfsrn.system import ShapeModel


class CompileTerms(pl.Callback):
    """Compile each loss term, forward and backward, when it is first computed; random draws are those of eager training.

    Not the whole step, whose unrolled marching takes minutes to compile.

    Args:
        backend: of `torch.compile`.

    Raises:
        ValueError: a training on the CPU without a C++ compiler.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self.backend = backend
        self._before = False  # whether compiled draws were those of eager code

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the terms compiled."""
        assert isinstance(pl_module, ShapeModel)
        if self.backend == "inductor" and trainer.strategy.root_device.type == "cpu" and not _compiler():
            raise ValueError("Expected a C++ compiler (g++) with compile=inductor on a CPU; compile=none trains without.")
        import torch._inductor.config as inductor

        self._before, inductor.fallback_random = inductor.fallback_random, True
        for term in pl_module.losses.terms.values():
            term.compile(backend=self.backend, dynamic=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have them computed as before."""
        assert isinstance(pl_module, ShapeModel)
        if stage == "fit":
            torch._inductor.config.fallback_random = self._before
            for term in pl_module.losses.terms.values():
                term._compiled_call_impl = None  # for which torch has no method


def _compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name)
