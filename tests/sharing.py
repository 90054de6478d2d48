"""A training that processes share, and what came of it: python sharing.py PROCESSES FOLDER writes <PROCESSES>-<rank>.pt."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from sdfsrn import SDFSRN
from sdfsrn.callbacks import SpherePretraining
from sdfsrn.models import Field
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.structures import March, Views
from tiny import MODEL, PICTURES

TOGETHER = 8
VALIDATED = (3, 1)  # objects: more and fewer than processes
VARIANTS = {
    "lstm": [],
    "joint": ["model.losses.terms.ray_surface.balance=false"],
    "unused": ["model.losses.weights.color=0", "model/raymarcher=sphere_tracer"],
    "occupancy": ["model/losses=occupancy", "model.losses.terms.eikonal.num_points=32"],
    "fsdp": ["strategy=fsdp", "trainer=gpu"],
}
TINY = [
    *PICTURES,
    *MODEL,
    "data.num_objects=10",
    "data.num_eval_objects=3",
    "data.shapes.views_per_object=2",
    "trainer=cpu",
    "trainer.max_steps=20",
    "trainer.log_every_n_steps=1",
    "+trainer.enable_progress_bar=false",
    "+trainer.enable_checkpointing=false",
]


class Drawn(nn.Module):
    """A loss term whose random numbers are those of the pictures, whichever process has them."""

    def __init__(self, term: nn.Module, *shape: int) -> None:
        super().__init__()
        self.term, self.shape = term, shape

    def forward(self, field: Field, march: March, views: Views) -> Tensor:
        generators = (torch.Generator().manual_seed(index) for index in views.index.tolist())
        draws = [torch.rand(*self.shape, generator=generator, dtype=views.uv.dtype) for generator in generators]
        return self.term(field, march, views, torch.stack(draws))


class Step(nn.Module):
    """A training step as a module, for torch's own data parallelism."""

    def __init__(self, model: SDFSRN) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: Views) -> Tensor:
        shape = self.model(views.image)
        return self.model.losses(shape, self.model.render(shape, views), views)[0]


def main(processes: int, folder: pathlib.Path) -> None:
    pl.seed_everything(0, verbose=False)
    shared = [f"trainer.devices={processes}", f"data.batch_size={TOGETHER // processes}", "strategy=ddp"]
    trainer, model = fitted(configured(folder, *shared, "trainer.precision=64-true", "+trainer.limit_val_batches=0"))
    still = [*shared, "model/raymarcher=dense", "optimizer.lr=0", "trainer.max_steps=1", "trainer.val_check_interval=1"]
    found = {
        "weights": model.state_dict(),
        "validation": {
            count: numbers(fitted(configured(folder, *still, f"data.val_objects={count}"))[0]) for count in VALIDATED
        },
        "gradients": dict(gradients(folder, trainer.global_rank, processes)),
    }
    torch.save(found, folder / f"{processes}-{trainer.global_rank}.pt")


def configured(folder: pathlib.Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        given = any(override.startswith("model/raymarcher=") for override in overrides)
        paper = ["optimizer=adam", *([] if given else ["model/raymarcher=lstm"])]  # without random numbers of a process's own
        return compose("train", [*TINY, *paper, *overrides, f"paths.cache={folder}", f"paths.output={folder}"])


def fitted(config: DictConfig) -> tuple[pl.Trainer, SDFSRN]:
    """After a training whose batch norm stands still, since on the CPU processes do not share it."""
    model, trainer = drawn(config), instantiate(config.trainer, logger=False)
    model.encoder.eval()
    SpherePretraining(iterations=100, num_points=512, learning_rate=3e-3).fit(model.hypernetwork)
    trainer.fit(model, datamodule=instantiate(config.data))
    return trainer, model


def drawn(config: DictConfig) -> SDFSRN:
    torch.manual_seed(1)
    model = instantiate(config.model, optimizer=instantiate(config.optimizer))
    terms = model.losses.terms
    terms["silhouette"] = Drawn(terms["silhouette"], config.data.num_rays, terms["silhouette"].num_samples)
    if "eikonal" in terms:
        terms["eikonal"] = Drawn(terms["eikonal"], terms["eikonal"].num_points, 3)
    return model


def numbers(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}


def gradients(folder: pathlib.Path, rank: int, processes: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Of every variant, for the same pictures; the first half of them is all silhouette, without any background."""
    for name, overrides in VARIANTS.items():
        config = configured(folder, *overrides)
        dataset = instantiate(config.data).dataset("train")
        torch.manual_seed(2)
        views = tree_map(to_double, dataset.views(range(TOGETHER)))
        views.inside[: TOGETHER // 2] = True
        mine = tree_map(lambda tensor: tensor.chunk(processes)[rank % processes], views)
        step = Step(drawn(config).double().eval())
        shared = parallel(step, config.trainer.strategy) if processes > 1 else step
        shared(mine).backward()
        with FullyShardedDataParallel.summon_full_params(shared, with_grads=True):
            found = {key: value.grad.clone() for key, value in step.named_parameters() if value.grad is not None}
        yield name, {key.replace("_fsdp_wrapped_module.", ""): value for key, value in found.items()}


def parallel(step: Step, strategy: DictConfig | str) -> nn.Module:
    """The module that the strategy makes for Lightning, on the CPU."""
    if strategy == "auto":
        return DistributedDataParallel(step, find_unused_parameters=True)
    policy = instantiate(strategy).kwargs["auto_wrap_policy"]
    return FullyShardedDataParallel(step, auto_wrap_policy=policy, use_orig_params=True, device_id=torch.device("cpu"))


def to_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


if __name__ == "__main__":
    main(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
