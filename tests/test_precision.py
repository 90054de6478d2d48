"""What each precision makes of the configuration, and that only the encoder is ever rounded."""

from __future__ import annotations

import pathlib

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor, nn

from sdfsrn import SDFSRN
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.structures import Views
from tiny import MODEL, PICTURES

TINY = [
    *PICTURES,
    *MODEL,
    "data.num_objects=4",
    "data.num_eval_objects=1",
    "data.shapes.views_per_object=1",
    "data.batch_size=4",
    "trainer=cpu",
    "trainer.max_steps=2",
    "trainer.val_check_interval=1",
    "trainer.log_every_n_steps=1",
    "+trainer.enable_progress_bar=false",
    "+trainer.enable_checkpointing=false",
]


def configured(*overrides: str, cache: pathlib.Path | str = "none") -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", [*TINY, "model/raymarcher=lstm", *overrides, f"paths.cache={cache}", "paths.output=out"])


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Views:
    dataset = instantiate(configured(cache=tmp_path_factory.mktemp("cache")).data).dataset("train")
    return dataset.views(range(len(dataset)))


@pytest.fixture
def model() -> SDFSRN:
    return instantiate(configured().model).train()


@pytest.mark.parametrize(
    ("name", "matmul", "trainer"),
    [
        ("fp32", "highest", "32-true"),
        ("tf32", "high", "32-true"),
        ("bf16", "highest", "bf16-mixed"),
    ],
)
def test_precisions(name: str, matmul: str, trainer: str) -> None:
    config = configured(f"precision={name}")
    assert (config.matmul_precision, config.trainer.precision) == (matmul, trainer)
    assert instantiate(config.trainer, logger=False).precision == trainer


class GivenLatent(nn.Module):
    """In place of an encoder, so that both precisions have the same latent codes."""

    latent_dim = 16

    def __init__(self, latent: Tensor) -> None:
        super().__init__()
        self.latent = nn.Parameter(latent)

    def forward(self, image: Tensor) -> Tensor:
        return self.latent


def after_the_encoder(model: SDFSRN, views: Views, bfloat16: bool) -> dict[str, Tensor]:
    """The loss, and its gradients by all that is learned after the encoder and by the latent codes."""
    torch.manual_seed(0)
    model.zero_grad()
    model.log_dict = model.log = lambda *arguments, **options: None  # there is no trainer to log to
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = model.training_step(views, 0)["loss"]
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_nothing_after_the_encoder_is_rounded(model: SDFSRN, views: Views) -> None:
    model.encoder = GivenLatent(torch.randn(len(views.image), 16))
    plain, mixed = (after_the_encoder(model, views, bfloat16) for bfloat16 in (False, True))
    assert plain.keys() == mixed.keys() >= {"encoder.latent", "raymarcher.step.weight", "hypernetwork.branches.0.0.weight"}
    for name, value in plain.items():
        assert value.abs().sum() > 0, name
        assert torch.equal(value, mixed[name]), name


def test_a_rounded_latent_code_goes_on_in_float32(model: SDFSRN, views: Views) -> None:
    model.encoder = GivenLatent(torch.randn(len(views.image), 16).bfloat16())
    gradients = after_the_encoder(model, views, bfloat16=True)
    assert {value.dtype for name, value in gradients.items() if not name.startswith("encoder")} == {torch.float32}


def test_autocast_reaches_the_encoder_and_nothing_else(model: SDFSRN, views: Views) -> None:
    seen = {}
    model.encoder.register_forward_hook(lambda module, inputs, latent: seen.update(latent=latent.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        field = model(views.image)
        march = model.render(field, views)
    assert seen == {"latent": torch.bfloat16}
    weights = [tensor for layer in (*field.backbone, field.sdf_head, field.color_head) for tensor in layer]
    assert {tensor.dtype for tensor in weights if tensor is not None} == {torch.float32}
    assert {tensor.dtype for tensor in march if tensor.is_floating_point()} == {torch.float32}


def test_bfloat16_trains_and_validates(tmp_path: pathlib.Path) -> None:
    config = configured("precision=bf16", cache=tmp_path)
    model, seen = instantiate(config.model), []
    model.encoder.register_forward_hook(lambda module, inputs, latent: seen.append((module.training, latent.dtype)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer: pl.Trainer = instantiate(config.trainer, logger=False)
    trainer.fit(model, datamodule=instantiate(config.data))
    assert set(seen) == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert torch.isfinite(trainer.callback_metrics["val/iou"])
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert value.isfinite().all()
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name
