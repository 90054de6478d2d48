"""The method as a LightningModule: it composes the parts and holds no mathematics of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from sdfsrn.data.sampling import run_seed, seed_step
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.losses import Objective
from sdfsrn.metrics.chamfer import ChamferDistance
from sdfsrn.models import Field, Hypernetwork
from sdfsrn.protocol import Protocol
from sdfsrn.structures import March, Views


class SDFSRN(pl.LightningModule):
    """Single-image signed distance functions, learned from silhouettes (SDF-SRN). arXiv:2010.10505.

        views.image --encoder--> latent --hypernetwork--> field: f (signed distance), g (colour), one MLP an object
        views.camera, views.uv --> rays --raymarcher(field)--> march: visited points, surface, colour
        field, march, views --losses--> the weighted sum of the losses

    Args:
        encoder: image to latent code, with `latent_dim`.
        hypernetwork: latent code to `Field`.
        raymarcher: (field, rays) to `March`.
        losses: (field, march, views) to the loss and its terms.
        optimizer: called with the parameters; Adam with the paper's learning rate if None.
        scheduler: called with the optimizer, stepped after every training step; None keeps the learning rate.
        validation: how to measure during training, coarser than the test's `protocol`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hypernetwork: Hypernetwork,
        raymarcher: nn.Module,
        losses: Objective,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None,
        validation: Protocol | None = None,
    ) -> None:
        super().__init__()
        if encoder.latent_dim != hypernetwork.latent_dim:
            raise ValueError(
                f"Expected one latent_dim, got {encoder.latent_dim} (encoder) and {hypernetwork.latent_dim} (hypernetwork)."
            )
        self.encoder = encoder
        self.hypernetwork = hypernetwork
        self.raymarcher = raymarcher
        self.losses = losses
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.validation = validation or Protocol(resolution=64, num_points=10_000)
        self.chamfer = ChamferDistance()
        self.iou = torchmetrics.MeanMetric()
        self.config: dict[str, Any] = {}  # what this model was built from; travels in its checkpoints
        self.pretrained = False  # the hypernetwork has been given its start, see `SpherePretraining`

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Field:
        """The implicit functions of the objects in the images (colours in [-1, 1])."""
        latent = self.encoder(image).to(image.dtype)
        with _full_precision(image):
            return self.hypernetwork(latent)

    def render(self, views: Views) -> tuple[Field, March]:
        """The implicit functions of the objects, and what their rays meet. Eq. (9), arXiv:2010.10505."""
        field = self(views.image)
        with _full_precision(views.image):
            return field, self.raymarcher(field, views.camera.rays(views.uv))

    def on_train_batch_start(self, views: Views, batch_index: int) -> None:
        """Make the losses' random draws a function of the seed and the step, so that a resumed run draws the same."""
        batches = self.trainer.accumulate_grad_batches
        seed_step(run_seed(), self.global_step * batches + batch_index % batches, self.global_rank)

    def training_step(self, views: Views, batch_index: int) -> dict[str, Tensor]:
        """One step; logs every term as `train/<name>` and the share of silhouette rays that found a surface."""
        field, march = self.render(views)
        with _full_precision(views.image):
            loss, terms = self.losses(field, march, views)
        crossed = (march.sdf > 0).any(-1) & (march.sdf < 0).any(-1)
        silhouette = views.area * views.inside
        hit = (crossed * silhouette).sum() / silhouette.sum().clamp(min=1e-6)
        values = {"loss": loss, "hit": hit, **terms}
        self.log_dict({f"train/{name}": value.detach() for name, value in values.items()}, prog_bar=False)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return values

    def validation_step(self, views: Views, batch_index: int) -> None:
        """Measures silhouettes in the input's view, and shapes that have a truth against it.

        Logs the intersection over union `val/iou`, and `val/accuracy`, `val/coverage`, `val/chamfer`, `val/failures`.
        """
        field, march = self.render(views)
        predicted = march.sdf[..., -1] < 0
        for i, points in enumerate(views.points):
            if views.index[i] < 0:
                continue
            self.iou.update(intersection_over_union(predicted[i], views.inside[i]))
            truth = self.validation.truth(points)
            if len(truth):
                mesh = self.validation.mesh(field[i : i + 1])
                self.chamfer.update(self.validation.align(self.validation.sample(mesh), truth), truth)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over objects; nothing about shapes if none has a truth."""
        found = self.chamfer.compute() | {"iou": self.iou.compute()}
        self.log_dict({f"val/{name}": value for name, value in found.items()})
        self.chamfer.reset()
        self.iou.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration (plain dictionaries and lists), under `config`."""
        checkpoint["config"] = self.config

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with learning rate 1e-4, unless another optimizer is given; the scheduler if there is one."""
        optimizer = (self.optimizer or (lambda parameters: torch.optim.Adam(parameters, lr=1e-4)))(self.parameters())
        if self.scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"}}


def _full_precision(like: Tensor) -> torch.autocast:
    """Where no autocast reaches: all but the encoder, since bfloat16 in the field changes gradients by a quarter."""
    return torch.autocast(like.device.type, enabled=False)
