"""The positional encoding from coarse to fine: `callbacks=[default,coarse_to_fine]`."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from sdfsrn.functional.encoding import band_weights
from sdfsrn.models import Hypernetwork
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel


class CoarseToFine(pl.Callback):
    """Fade in the frequencies of the positional encoding one after another, for poses that are rough.

    A fine wave turns round within the error of a rough pose, so that its gradient points anywhere. Only the bare coordinates
    are seen at first; all frequencies are there from `end` on. Eq. (14), arXiv:2104.06405 (BARF).

    Args:
        start: share of the training in which there is no frequency.
        end: share of the training after which all are there.

    Raises:
        ValueError: shares that are not 0 <= start < end <= 1, or a model without frequencies.
    """

    def __init__(self, start: float = 0.1, end: float = 0.5) -> None:
        if not 0 <= start < end <= 1:
            raise ValueError(f"Expected 0 <= start < end <= 1 of callbacks.coarse_to_fine, got {start} and {end}.")
        self.start, self.end = start, end

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the bare coordinates, before pretraining."""
        if stage != "fit":
            return
        hypernetwork = getattr(pl_module, "hypernetwork", None)
        if not isinstance(hypernetwork, Hypernetwork) or not hypernetwork.field.num_frequencies:
            raise ValueError(
                f"Expected a model with frequencies, whose model.hypernetwork.field.num_frequencies is above 0, with "
                f"callbacks=[default,coarse_to_fine], got {type(pl_module).__name__} without."
            )
        hypernetwork.bands = torch.zeros(hypernetwork.field.num_frequencies, device=pl_module.device)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Set how much of each frequency is seen."""
        assert isinstance(pl_module, ShapeModel)
        assert isinstance(pl_module.hypernetwork, Hypernetwork)
        bands = pl_module.hypernetwork.bands
        assert bands is not None  # since `setup`
        done = (trainer.global_step / pl_module.total_steps - self.start) / (self.end - self.start)
        bands.copy_(band_weights(done, bands))
