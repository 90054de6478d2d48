from __future__ import annotations

import numpy as np
import pytest
import torch

from scenes import random_picture
from sdfsrn.data.source import ImageSample, check_picture
from sdfsrn.functional.camera import PerspectiveCamera


def spoil(**changes) -> ImageSample:
    picture = random_picture(PerspectiveCamera, (6, 8))
    camera = PerspectiveCamera(*(t.clone() for t in picture.camera))
    for name, change in changes.items():
        if name in camera._fields:
            change(getattr(camera, name))
    return picture._replace(camera=camera, **{k: v for k, v in changes.items() if k in ("image", "alpha")})


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (lambda: spoil(alpha=np.zeros((6, 8), np.float32)), "is empty"),
        (lambda: spoil(alpha=np.full((6, 8), 0.4, np.float32)), "is empty"),
        (lambda: spoil(alpha=np.ones((6, 8), np.float32)), "covers the whole image"),
        (lambda: spoil(alpha=np.eye(8, dtype=np.float32)), "of one size"),
        (lambda: spoil(image=np.zeros((6, 8, 4), np.uint8)), "RGB"),
        (lambda: spoil(world_to_camera=lambda t: t[0].fill_(torch.nan)), r"finite.*world_to_camera"),
        (lambda: spoil(intrinsics=lambda t: t[0].fill_(torch.inf)), r"finite.*intrinsics"),
        (lambda: spoil(world_to_camera=lambda t: t[0].neg_()), "rotation"),
        (lambda: spoil(world_to_camera=lambda t: t[:, :3].mul_(2)), "rotation"),
        (lambda: spoil(intrinsics=lambda t: t[1, 1].neg_()), "focal"),
        (lambda: spoil(intrinsics=lambda t: t[0, 1].fill_(0.5)), "skew|intrinsics"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(picture, reason: str) -> None:
    good = random_picture(PerspectiveCamera, (6, 8))
    check_picture(good._replace(alpha=np.eye(6, 8, dtype=np.float32)), "good.png")
    spoilt = picture()
    if np.unique(spoilt.alpha).size != 1 and spoilt.alpha.shape == (6, 8):
        spoilt = spoilt._replace(alpha=np.eye(6, 8, dtype=np.float32))
    with pytest.raises(ValueError, match=reason) as caught:
        check_picture(spoilt, "bad.png")
    assert "bad.png" in str(caught.value)
    assert "\n" not in str(caught.value)
