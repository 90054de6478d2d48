"""The configuration travels inside checkpoints."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class ConfigInCheckpoint(pl.Callback):
    """Put the resolved configuration (plain dictionaries and lists) into every checkpoint, under `config`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add it."""
        checkpoint["config"] = self.config
