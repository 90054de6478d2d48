from __future__ import annotations

import inspect
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch.utils._pytree import tree_leaves

from scenes import Memory, disc
from sdfsrn.data import Preprocessing, ShapeNetDataModule, SourceDataModule, ViewsDataModule
from sdfsrn.data.batches.datamodule import Loading
from sdfsrn.data.source import ImageSample
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.structures import Views

SHARED = """
import os, pathlib, sys
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from sdfsrn.data import SyntheticDataModule, SyntheticSource

folder = pathlib.Path(sys.argv[1])
generate = SyntheticSource._generate


def noted(self):
    with (folder / "rendered").open("a") as file:
        file.write(f"{self.split} by {os.environ.get('LOCAL_RANK', 0)}, ")
    return generate(self)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, views, index):
        with (folder / f"trained-{self.global_rank}").open("a") as file:
            file.write("".join(f"{i} " for i in views.index.tolist()))
        return self.layer(views.color).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


SyntheticSource._generate = noted
shapes = {"views_per_object": 2, "image_size": 16, "num_points": 50, "cache": str(folder)}
data = SyntheticDataModule(4, 1, shapes, batch_size=2, num_rays=8)
rank_zero_only(data.prepare_data)()
options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "use_distributed_sampler": False}
trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, num_sanity_val_steps=0, **options)
trainer.fit(Model(), datamodule=data)
"""


class Recorder(pl.LightningModule):
    """Trains nothing, and keeps the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Views] = []

    def training_step(self, views: Views, index: int) -> None:
        self.batches.append(views)

    def validation_step(self, views: Views, index: int) -> None:
        self.batches.append(views)

    def configure_optimizers(self) -> None:
        return None


class Discs(Memory):
    """Discs of growing radii, with a point each per picture."""

    def __init__(self, count: int = 4, size: int = 16, points: int = 0) -> None:
        radii = [0.3 + 0.4 * i / count for i in range(count)]
        super().__init__([disc(PerspectiveCamera, size, radius, (0, 0)) for radius in radii], points)


def recorded(data: ViewsDataModule, **options) -> list[Views]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer, model = pl.Trainer(accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, **quiet, **options), Recorder()
    trainer.fit(model, datamodule=data)
    return model.batches


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_batches_depend_neither_on_where_pictures_are_nor_on_workers(
    balls: pathlib.Path, tmp_path: pathlib.Path, precision: str
) -> None:
    def batches(**options) -> list[torch.Tensor]:
        settings = {"batch_size": 2, "num_rays": 40, "jitter": True, "scale_jitter": 0.2, "boundary_fraction": 0.5}
        hulls = {"hull_depth": True, "hull_folder": str(tmp_path / "hulls")}
        data = ShapeNetDataModule(root=str(balls), category="airplane", **settings, **hulls, **options)
        views = recorded(data, precision=precision)
        known = [batch.hull_depth.isfinite().any().item() for batch in views]
        assert known == [len(batch.index) == 2 for batch in views]  # in training
        return tree_leaves(views)

    expected = batches()
    assert {x.dtype for x in expected if x.is_floating_point()} == {torch.double if precision == "64-true" else torch.float}
    for options in (
        {"on_device": False},
        {"preload": False},
        {"memmap_dir": str(tmp_path)},
        {"num_workers": 2},
        {"on_device": False, "num_workers": 1},
    ):
        found = batches(**options)
        assert len(found) == len(expected)
        assert all(map(torch.equal, found, expected)), options


def test_a_data_module_of_ones_own_sources() -> None:
    data = SourceDataModule(Discs(6), Discs(3, points=2), batch_size=3, num_rays=20, background=-1.0, val_objects=2)
    batches = recorded(data)
    training = [views for views in batches if views.uv.shape[1] == 20]
    validation = [views for views in batches if views.uv.shape[1] == 256]
    assert [sorted(i for views in training[n : n + 2] for i in views.index.tolist()) for n in (0, 2)] == [list(range(6))] * 2
    assert [views.index.tolist() for views in validation] == [[0], [1]] * 2
    assert [views.points.shape[1] for views in validation] == [0, 2] * 2
    assert all((views.points.shape[1], views.image[:, :, 0, 0].unique().tolist()) == (0, [-1.0]) for views in training)
    assert data.preprocessing == Preprocessing(16, -1.0)
    with pytest.raises(ValueError, match="source for the split test"):
        data.test_dataloader()


def test_the_config_of_ones_own_sources() -> None:
    own = [f"data.{split}._target_=scenes.Memory" for split in ("train", "val")]
    own += ["+data.train.pictures=[]", "+data.val.pictures=[]", "+data.val.points=3", "paths.output=out"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["data=sources", *own])
    data = instantiate(config.data)
    assert isinstance(data, SourceDataModule)
    assert [type(data.source(split)) for split in ("train", "val")] == [Memory, Memory]
    assert [data.source(split).count for split in ("train", "val")] == [0, 3]


def test_every_data_module_takes_what_the_loaders_take() -> None:
    own = inspect.signature(ViewsDataModule).parameters
    assert list(Loading.__annotations__) == list(own)
    for parameter in own.values():
        assert Loading.__annotations__[parameter.name].__forward_arg__ == parameter.annotation


def test_bad_data_is_found_when_data_are_prepared() -> None:
    class Bad(Discs):
        def picture(self, index: int) -> ImageSample:
            picture = super().picture(index)
            return picture._replace(alpha=0 * picture.alpha) if index == 2 else picture

    with pytest.raises(ValueError, match="is empty in picture 2"):
        SourceDataModule(Discs(), Bad()).prepare_data()


@pytest.mark.slow
def test_two_processes_render_a_split_once(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "shared.py"
    script.write_text(textwrap.dedent(SHARED))
    alien = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")
    environment = {name: value for name, value in os.environ.items() if name not in alien} | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "rendered").read_text() == "train by 0, val by 0, "
    trained = [(tmp_path / f"trained-{rank}").read_text().split() for rank in range(2)]
    assert sorted(trained[0] + trained[1]) == [str(i) for i in range(8)]


def test_a_batch_larger_than_the_data_is_told_when_the_data_is_opened() -> None:
    """Which is before pretraining; with several processes by the trainer's `setup`, which knows them."""
    data = SourceDataModule(Discs(3), Discs(1), batch_size=4, num_rays=20)
    for early in (data.prepare_data, lambda: data.setup("fit")):
        with pytest.raises(ValueError, match=r"Expected at least data.batch_size x processes = 4 pictures, got 3\."):
            early()
    data.setup("validate")
