"""The encoders of SoftRas and CMR: sizes as published, pictures of one size."""

from __future__ import annotations

import pytest
import torch
import torchvision

from sdfsrn.models import FlatConvEncoder, FlatResNetEncoder, MeshDecoder


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_softras_has_its_published_size() -> None:
    encoder = FlatConvEncoder()
    assert parameters(encoder) + parameters(MeshDecoder(512)) == pytest.approx(25.9e6, rel=0.01)
    latent = encoder(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert latent.shape == (2, 512)
    assert (latent >= 0).all()


def test_cmr_has_its_published_size() -> None:
    encoder = FlatResNetEncoder(weights=None)
    assert encoder.network.avgpool[0].weight.shape == (256, 512, 4, 4)
    assert encoder.network.fc[0][0].weight.shape == (200, 256)
    assert encoder.network.fc[0][0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (encoder.network.fc[1][0].bias == 0).all()
    assert encoder(torch.zeros(2, 3, 64, 64)).shape == (2, 200)
    assert FlatResNetEncoder(image_size=256, weights=None).network.fc[0][0].in_features == 4096
    assert FlatResNetEncoder(image_size=96, weights=None)(torch.zeros(2, 3, 96, 96)).shape == (2, 200)


def test_cmr_starts_from_a_file_of_weights(tmp_path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet.pth")
    encoder = FlatResNetEncoder(weights=str(tmp_path / "resnet.pth"))
    assert torch.equal(encoder.network.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize("size", [20, 33])
def test_any_size_fits_softras(size: int) -> None:
    encoder = FlatConvEncoder(7, size, widths=(4, 8), hidden_width=16)
    assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_other_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected pictures of model\.encoder\.image_size=64, got 32 x 64"):
        FlatConvEncoder(widths=(4,), hidden_width=4)(torch.zeros(2, 3, 32, 64))
    with pytest.raises(ValueError, match="more than 32 pixels for CMR's encoder, got 24"):
        FlatResNetEncoder(image_size=24, weights=None)
