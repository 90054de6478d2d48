from __future__ import annotations

import pathlib
import urllib.error

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from sdfsrn.models.encoder import ConvEncoder, ResNetEncoder


def one_line(error: BaseException) -> str:
    message = str(error)
    assert "\n" not in message
    return message


def test_latent_codes_of_any_image_size() -> None:
    for encoder in (ResNetEncoder(latent_dim=7, weights=None).eval(), ConvEncoder(latent_dim=7).eval()):
        for size in (32, 64, 100):
            assert encoder(torch.rand(2, 3, size, size) * 2 - 1).shape == (2, 7)


def test_the_small_encoder_is_less_than_a_fifth_of_the_large_one_and_tells_pictures_apart() -> None:
    counts = []
    for encoder in (ConvEncoder(128), ResNetEncoder(128, weights=None)):
        with FlopCounterMode(display=False) as counter:
            encoder.eval()(torch.zeros(1, 3, 64, 64))
        counts.append(counter.get_total_flops())
    assert 5 * counts[0] < counts[1]
    latent = ConvEncoder(8).eval()(torch.rand(4, 3, 64, 64))
    assert torch.pdist(latent).min() > 1e-4
    with pytest.raises(ValueError, match=r"Expected encoder\.widths of at least 1"):
        ConvEncoder(8, widths=[])


def test_normalization_is_imagenets() -> None:
    """A picture with ImageNet's mean colour is 0 for the network, one standard deviation above it is 1."""
    encoder = ResNetEncoder(latent_dim=2, weights=None)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for k in (0.0, 1.0):
        image = (2 * (mean + k * std) - 1)[:, None, None]
        torch.testing.assert_close((image - encoder.mean) / encoder.std, torch.full((3, 1, 1), k), atol=1e-6, rtol=0)
    plain = ResNetEncoder(latent_dim=2, weights=None, normalize=False)
    image = torch.rand(3, 4, 4)
    torch.testing.assert_close((image - plain.mean) / plain.std, image)


def test_buffers_are_not_in_checkpoints() -> None:
    assert all(name.startswith("network.") for name in ResNetEncoder(2, weights=None).state_dict())


def test_unknown_depth() -> None:
    with pytest.raises(ValueError, match="18, 34 or 50, got 17") as caught:
        ResNetEncoder(4, depth=17, weights=None)
    one_line(caught.value)


def test_missing_weight_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"none\.pth") as caught:
        ResNetEncoder(4, weights=str(tmp_path / "none.pth"))
    assert "imagenet, null or a file" in one_line(caught.value)


def test_local_weights_load_but_for_the_classifier(tmp_path: pathlib.Path) -> None:
    donor = torchvision.models.resnet18(weights=None)
    torch.save(donor.state_dict(), tmp_path / "resnet.pth")
    encoder = ResNetEncoder(4, weights=str(tmp_path / "resnet.pth"))
    for name, value in donor.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(encoder.network.state_dict()[name], value)
    assert encoder.network.fc.out_features == 4


@pytest.mark.parametrize("content", ["another depth", "not weights", "garbage", "empty"])
def test_wrong_weights_are_named(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "wrong.pth"
    if content == "another depth":
        torch.save(torchvision.models.resnet34(weights=None).state_dict(), path)
    elif content == "not weights":
        torch.save([1, 2, 3], path)
    else:
        path.write_bytes(b"garbage" if content == "garbage" else b"")
    with pytest.raises(ValueError, match="ResNet-18") as caught:
        ResNetEncoder(4, weights=str(path))
    assert str(path) in one_line(caught.value)


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("no route to host"), ConnectionResetError("reset"), RuntimeError("invalid hash")]
)
def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*args: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fail)
    with pytest.raises(RuntimeError, match=r"model\.encoder\.weights=null") as caught:
        ResNetEncoder(4)
    assert "model.encoder.weights=/path" in one_line(caught.value)


def test_imagenet_weights_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    donor = torchvision.models.resnet18(weights=None).state_dict()
    asked = []
    monkeypatch.setattr(
        torchvision.models._api, "load_state_dict_from_url", lambda url, *args, **options: asked.append(url) or donor
    )
    encoder = ResNetEncoder(4)
    assert "resnet18" in asked[0]
    assert torch.equal(encoder.network.conv1.weight, donor["conv1.weight"])


def test_pictures_can_be_enlarged_first() -> None:
    encoder = ResNetEncoder(8, weights=None).eval()
    image = torch.rand(1, 3, 32, 32)
    larger = torch.nn.functional.interpolate(image, (48, 48), mode="bilinear", align_corners=False)
    small, expected = encoder(image), encoder(larger)
    encoder.resize = 48
    torch.testing.assert_close(encoder(image), expected)
    assert not torch.allclose(small, expected)
