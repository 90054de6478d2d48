"""Models as LightningModules: what all of them share, and the method, which composes its parts."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from jaxtyping import Bool, Float
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.kernels import check_kernels
from sdfsrn.losses import Objective
from sdfsrn.metrics.pose import PoseError
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.metrics.surface import ChamferDistance
from sdfsrn.models import GivenPose, Hypernetwork, ImplicitShape, Shape
from sdfsrn.runtime.configs import describe
from sdfsrn.runtime.seeds import run_seed, seed_step
from sdfsrn.structures import March, Rendering, Views

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class ShapeModel(pl.LightningModule, abc.ABC):
    """A model that turns images into shapes: it encodes, decodes and renders; training and validation are the same for all.

    A subclass takes the arguments below, hands them on, and keeps its own under their names, so that checkpoints can tell how
    it was built.

    Args:
        losses: (shape, rendering, views) to the loss and its terms.
        optimizer: called with the parameters; Adam with the paper's learning rate if None.
        scheduler: called with the optimizer, stepped after every training step; None keeps the learning rate.
        validation: how to measure during training, coarser than the test's `protocol`.
        pose: what the poses of the training pictures are, as annotated if None.

    Attributes:
        whole_pictures: it renders all pixels of a picture or none, so that its latent codes cannot be fitted to sampled rays.
        protocol: how its shapes are meshed and measured; travels in checkpoints.
        preprocessing: from a picture to its input, as in training; travels in checkpoints.
        config: the run's configuration, plain dictionaries; travels in checkpoints. Empty for a model built in Python.
        capturable: whether `step` does the same operations for any values, and so can be a CUDA graph.
        empty_steps: steps without any surface after which there will be none.
    """

    capturable = True
    whole_pictures = False
    empty_steps = 50
    total_steps: float = math.inf

    def __init__(
        self,
        losses: Objective,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        validation: EvaluationProtocol | None = None,
        pose: GivenPose | None = None,
    ) -> None:
        super().__init__()
        self.losses = losses
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.validation = validation or EvaluationProtocol(resolution=64, num_points=10_000)
        self.pose = pose or GivenPose()
        self.chamfer = ChamferDistance()
        self.iou = torchmetrics.MeanMetric()
        self.pose_error = PoseError()
        self.protocol = EvaluationProtocol(low=self.validation.low, high=self.validation.high)
        self.preprocessing = Preprocessing()
        self.config: dict[str, Any] = {}

    @abc.abstractmethod
    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""

    @abc.abstractmethod
    def decode(self, latent: Float[Tensor, "b l"]) -> Shape:
        """The shapes of latent codes."""

    @abc.abstractmethod
    def render(self, shape: Any, views: Views) -> Rendering:
        """The shapes along the rays of their views."""

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Any:
        """The shapes of the objects in the images (colours in [-1, 1])."""
        return self.decode(self.encode(image).to(image.dtype))

    def surface_found(self, rendering: Any) -> Bool[Tensor, "b r"]:
        """Which rays met a surface: `train/hit` is their share of the silhouette, and none at all is a collapse."""
        found: Tensor = rendering.opacity >= 0.5
        return found

    def setup(self, stage: str) -> None:
        """Take the preprocessing of the trainer's data.

        Raises:
            ValueError: a model of whole pictures is to be trained on some of their pixels.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        settings = getattr(datamodule, "settings", None)
        if self.whole_pictures and stage == "fit" and settings is not None and settings.num_rays is not None:
            raise ValueError(
                f"Expected data.num_rays=null with {type(self).__name__}, which renders all pixels, got {settings.num_rays}."
            )
        self.preprocessing = getattr(datamodule, "preprocessing", self.preprocessing)
        self.pose.check(self)
        if stage == "fit" and datamodule is not None and hasattr(datamodule, "dataset"):
            self.pose.attach(datamodule.dataset("train").source.names)

    def on_train_start(self) -> None:
        """Count the steps of the training, by which the rate of poses changes.

        Raises:
            ValueError: poses are learned, and the training has no end.
        """
        self.total_steps = self.trainer.estimated_stepping_batches
        if self.pose.scheduled and math.isinf(self.total_steps):
            raise ValueError(f"Expected trainer.max_steps or max_epochs with {type(self.pose).__name__}, which ends with them.")

    def on_train_batch_start(self, views: Views, batch_index: int) -> None:
        """Make random draws, and what else changes, a function of the seed and the step, so that a resumed run is the same."""
        self.prepare_step(self.global_step)
        self.pose.schedule(self.global_step / self.total_steps)
        batches = self.trainer.accumulate_grad_batches
        seed_step(run_seed(), self.global_step * batches + batch_index % batches, self.global_rank)

    def training_step(self, views: Views, batch_index: int) -> dict[str, Tensor]:
        """One step; logs every term as `train/<name>` and the share of silhouette rays that found a surface."""
        loss, terms = self.step(views)
        values = {"loss": loss, **terms}
        self.log_dict({f"train/{name}": value.detach() for name, value in values.items()})  # a GPU is waited for with prog_bar
        return values

    def step(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and what is logged beside it: `hit` and the terms. Tensors alone, so that it can be a CUDA graph."""
        return self.pose.step(self, views)

    def compare(self, shape: Any, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of shapes, seen from the cameras of the views, and what is logged beside it: `hit` and the terms."""
        rendering = self.render(shape, views)
        with full_precision(views.image):
            loss, terms = self.losses(shape, rendering, views)
        silhouette = views.inverse_density * views.inside
        hit = (self.surface_found(rendering) * silhouette).sum() / silhouette.sum().clamp(min=1e-6)
        return loss, {"hit": hit, **terms}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Change the poses, which have an optimizer of their own."""
        self.pose.update()

    def prepare_step(self, step: int) -> Any:
        """Set what depends on the number of a step, and return it: a step captured under another value is captured again."""
        return None

    def validation_step(self, views: Views, batch_index: int) -> None:
        """Measure silhouettes in the input's view, and shapes, and poses where they are estimated, of known ground truth.

        Logs the intersection over union `val/iou`; `val/accuracy`, `val/coverage`, `val/chamfer`, `val/failures`; and what
        `PoseError` measures as `pose/<name>`.
        """
        shape = self(views.image)
        seen = self.pose.estimate(views)
        inside = self.render(shape, seen).opacity >= 0.5
        for i, points in enumerate(views.points):
            if views.index[i] < 0:
                continue
            self.iou.update(intersection_over_union(inside[i], views.inside[i]))
            truth = self.validation.ground_truth(points)
            if len(truth) and self.pose.estimates:
                self.pose_error.update(*(v.camera.world_to_camera[i : i + 1, :, :3] for v in (seen, views)))
            if len(truth):
                mesh = shape[i : i + 1].mesh(self.validation.grid, color=False)
                self.chamfer.update(self.validation.align(self.validation.sample(mesh), truth), truth)

    def on_validation_epoch_end(self) -> None:
        """Log the means over objects; nothing about shapes if no ground truth is known."""
        values = self.chamfer.compute() | {"iou": self.iou.compute()}
        self.log_dict({f"val/{name}": value for name, value in values.items()})
        if self.pose.estimates:
            self.log_dict({f"pose/{name}": value for name, value in self.pose_error.compute().items()})
        self.chamfer.reset()
        self.pose_error.reset()
        self.iou.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add, under `config`, how to build this model again (plain dictionaries), its protocol and its preprocessing."""
        checkpoint["config"] = self.description()
        if self.pose.names is not None:
            checkpoint["pictures"] = self.pose.names

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that refined poses belong to the pictures of this training."""
        if "pictures" in checkpoint:
            here, self.pose.names = self.pose.names, checkpoint["pictures"]
            self.pose.attach(here or checkpoint["pictures"])

    def description(self) -> dict[str, Any]:
        """The configuration, or, of a model built in Python, one made from the attributes of its parts."""
        made = {"protocol": describe(self.protocol), "preprocessing": describe(self.preprocessing)}
        if "model" in self.config:
            return {**self.config, **made}
        try:
            return {"model": describe(self, leave_out=("optimizer", "scheduler")), **made}
        except ValueError as error:
            rank_zero_warn(f"{error} Until then this checkpoint loads by sdfsrn.load(path, model=...) only.")
            return made

    def weights(self) -> list[nn.Parameter]:
        """The parameters of the optimizer: all but those that `pose` changes itself."""
        poses = {id(parameter) for parameter in self.pose.own_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in poses]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with learning rate 1e-4, unless another optimizer is given; the scheduler if there is one."""
        optimizer = (self.optimizer or (lambda parameters: torch.optim.Adam(parameters, lr=1e-4)))(self.weights())
        if self.scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"}}


class ImplicitModel(ShapeModel):
    """A model of implicit shapes, along whose rays a marcher finds surfaces.

    Args:
        encoder: image to latent code, with `latent_dim`.
        hypernetwork: latent code to `ImplicitShape`, with the same `latent_dim`.
        raymarcher: (shape, rays) to a `Rendering`.
        losses, optimizer, scheduler, validation, pose: see `ShapeModel`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hypernetwork: nn.Module,
        raymarcher: nn.Module,
        losses: Objective,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        validation: EvaluationProtocol | None = None,
        pose: GivenPose | None = None,
    ) -> None:
        super().__init__(losses, optimizer, scheduler, validation, pose)
        check_latent_dim(encoder, hypernetwork, "hypernetwork")
        self.encoder = encoder
        self.hypernetwork = hypernetwork
        self.raymarcher = raymarcher

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""
        return self.pose.code(self.encoder(image))

    def decode(self, latent: Float[Tensor, "b l"]) -> ImplicitShape:
        """The implicit functions of latent codes. Section 3.3, arXiv:2010.10505."""
        with full_precision(latent):
            shape: ImplicitShape = self.hypernetwork(latent)
        shape.grid = self.protocol.grid
        return shape

    def render(self, shape: ImplicitShape, views: Views) -> Rendering:
        """What the rays of the views meet. Eq. (9), arXiv:2010.10505."""
        with full_precision(views.uv):
            rendering: Rendering = self.raymarcher(shape, views.camera.rays(views.uv))
        return rendering


class SDFSRN(ImplicitModel):
    """Single-image signed distance functions, learned from silhouettes (SDF-SRN). arXiv:2010.10505.

        views.image --encoder--> latent --hypernetwork--> field: f (signed distance), g (colour), one MLP per object
        views.camera, views.uv --> rays --raymarcher(field)--> march: visited points, surface, colour
        field, march, views --losses--> the weighted sum of the losses

    Args:
        encoder: image to latent code, with `latent_dim`.
        hypernetwork: latent code to `Field`.
        raymarcher: (field, rays) to `March`.
        losses: (field, march, views) to the loss and its terms.
        optimizer, scheduler, validation, pose: see `ShapeModel`.

    Attributes:
        pretrained: the hypernetwork has been given its start, see `SpherePretraining`.
    """

    hypernetwork: Hypernetwork
    pretrained = False

    def setup(self, stage: str) -> None:
        """Check, beside what `ShapeModel` does, that the field's kernel can run.

        Raises:
            ValueError: a kernel without a CUDA device, in words.
        """
        super().setup(stage)
        field = getattr(self.hypernetwork, "field", None)
        if stage == "fit" and getattr(field, "kernel", "plain") != "plain":
            check_kernels(self.trainer.strategy.root_device)

    def surface_found(self, rendering: March) -> Bool[Tensor, "b r"]:
        """Which rays have a surface between any two of their visited points."""
        return rendering.crossed


def check_latent_dim(encoder: nn.Module, decoder: nn.Module, name: str) -> None:
    """Refuse an encoder and a decoder, called `name`, whose latent codes differ in length.

    Raises:
        ValueError: with both lengths.
    """
    if encoder.latent_dim != decoder.latent_dim:
        raise ValueError(f"Expected one latent_dim, got {encoder.latent_dim} (encoder) and {decoder.latent_dim} ({name}).")


def full_precision(like: Tensor) -> torch.autocast:
    """Disable autocast: all but the encoder runs in float32, since bfloat16 in the field changes gradients by a quarter."""
    return torch.autocast(like.device.type, enabled=False)
