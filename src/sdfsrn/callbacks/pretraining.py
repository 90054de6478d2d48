"""Sphere pretraining: a stage before the first training step."""

from __future__ import annotations

import io
import pathlib
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from sdfsrn.functional.losses import sphere_loss
from sdfsrn.models import Hypernetwork
from sdfsrn.runtime.files import cache_key, check_cache, write_atomically
from sdfsrn.runtime.progress import track
from sdfsrn.system import SDFSRN


class _Settings(NamedTuple):
    radius: float
    iterations: int
    num_points: int
    num_latents: int
    learning_rate: float
    low: float
    high: float
    seed: int


class SpherePretraining(pl.Callback):
    """Train the hypernetwork to give the SDF of a sphere for latent codes z ~ N(0, I). Eq. (26), arXiv:2010.10505.

    Skipped when a run is resumed. The result depends on these settings and the hypernetwork's initial weights only, and is
    cached.

    Args:
        radius: of the sphere, world frame.
        iterations, num_points, num_latents, learning_rate: of the fit with Adam; `num_points` per iteration, in total.
        low, high: points are uniform in [low, high]^3.
        seed: of codes and points.
        cache: folder of results; None caches nothing.
    """

    def __init__(
        self,
        radius: float = 0.5,
        iterations: int = 2000,
        num_points: int = 10_000,
        num_latents: int = 4,
        learning_rate: float = 1e-4,
        low: float = -1.0,
        high: float = 1.0,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        self.settings = _Settings(radius, iterations, num_points, num_latents, learning_rate, low, high, seed)
        self.cache = pathlib.Path(cache) if cache else None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pretrain an `SDFSRN`, or load a cached result, in the main process; the others receive its weights."""
        if not isinstance(pl_module, SDFSRN) or trainer.ckpt_path is not None or pl_module.pretrained:
            return
        hypernetwork = pl_module.hypernetwork
        if trainer.is_global_zero:
            self._start(hypernetwork)
        state = trainer.strategy.broadcast({k: v.cpu() for k, v in hypernetwork.state_dict().items()})
        hypernetwork.load_state_dict(state)
        pl_module.pretrained = True

    def _start(self, hypernetwork: Hypernetwork) -> None:
        path = self._path(hypernetwork)
        if path is not None and path.is_file():
            try:
                hypernetwork.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
                rank_zero_info(f"Sphere pretraining: loaded {path}.")
                return
            except Exception as error:  # a damaged file is replaced
                rank_zero_info(f"Sphere pretraining: {path} is unusable ({error!r}) and is replaced.")
        if path is not None:
            path = self._checked(path)
        loss = self.fit(hypernetwork)
        rank_zero_info(
            f"Sphere pretraining: root mean square error {loss.sqrt():.4f} after {self.settings.iterations} iterations."
        )
        if path is not None:
            stream = io.BytesIO()
            torch.save(hypernetwork.state_dict(), stream)
            try:
                write_atomically(path, stream.getvalue())
            except OSError as error:
                rank_zero_warn(f"{error} The training goes on, and the next one pretrains again.")

    @staticmethod
    def _checked(path: pathlib.Path) -> pathlib.Path | None:
        """The path, None if its folder cannot be written; pretraining is worth more than its place in a cache."""
        try:
            check_cache(path.parent)
        except OSError as error:
            rank_zero_warn(f"{error} The training goes on, and the next one pretrains again.")
            return None
        return path

    def fit(self, hypernetwork: Hypernetwork) -> Tensor:
        """Pretrain in place with a random generator of its own, and return the last loss."""
        options = self.settings
        device = next(hypernetwork.parameters()).device
        generator = torch.Generator().manual_seed(options.seed)
        optimizer = torch.optim.Adam(hypernetwork.parameters(), lr=options.learning_rate, fused=device.type in ("cpu", "cuda"))
        shape = (options.num_latents, options.num_points // options.num_latents, 3)
        loss = torch.zeros(())
        with torch.enable_grad():
            for _ in track(range(options.iterations), "Sphere pretraining", options.iterations, "iterations"):
                latent = torch.randn(shape[0], hypernetwork.latent_dim, generator=generator).to(device)
                uniform = torch.rand(shape, generator=generator).to(device)
                points = options.low + uniform * (options.high - options.low)
                loss = sphere_loss(hypernetwork(latent).sdf(points), points, options.radius)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        hypernetwork.zero_grad()
        return loss.detach()

    def _path(self, hypernetwork: Hypernetwork) -> pathlib.Path | None:
        if self.cache is None:
            return None
        shapes = {name: list(value.shape) for name, value in hypernetwork.state_dict().items()}
        start = [float(value.double().norm()) for value in hypernetwork.state_dict().values()]
        key = cache_key([self.settings._asdict(), str(hypernetwork.field), shapes, start])
        return self.cache / f"sphere-{key}.pt"
