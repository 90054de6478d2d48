"""Training batches made where the model is: pictures stay on its device, and only random numbers travel there.

The batches are those of `ViewsDataset`, made of the same random numbers a batch at a time, without waiting for the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import Dataset, default_collate

from sdfsrn.data.batches.jitter import LUMA, hue
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.resizing import resampling
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.batches.views import Augmentation, ViewsDataset
from sdfsrn.functional.camera import pixel_centers
from sdfsrn.functional.pixels import draw_pixels, ray_density
from sdfsrn.functional.silhouette import importance_weight
from sdfsrn.runtime.seeds import sample_generator
from sdfsrn.structures import Views


class Recipe(NamedTuple):
    """What a training batch is to be made of."""

    picture: Int[Tensor, " b"]
    chance: Augmentation

    @classmethod
    def collate(cls, recipes: list[Recipe]) -> Recipe:
        """A batch of single ones."""
        return default_collate(recipes)


class Recipes(Dataset[Recipe]):
    """The random numbers of a data set's samples, and no more."""

    def __init__(self, dataset: ViewsDataset, num_pixels: int) -> None:
        self.augmentation, self.seed, self.num_pixels = dataset.augmentation, dataset.seed, num_pixels

    def __getitem__(self, draw: SampleKey) -> Recipe:
        """Those that `ViewsDataset` has for this draw."""
        chance = self.augmentation(self.num_pixels, sample_generator(self.seed, draw.number))
        return Recipe(torch.tensor(draw.picture), chance)


class ResidentPictures:
    """All pictures of a training split on one device, and the batches made of them there.

    Args:
        dataset: of a `PreloadedSource`.
        device: that of the batches; on the CPU the source's memory is shared.
    """

    def __init__(self, dataset: ViewsDataset, device: torch.device) -> None:
        source: PreloadedSource = dataset.source  # type: ignore[assignment]
        self.dataset, self.device = dataset, device
        self.rgba, camera = source.tensors()
        self.rgba, self.camera = self.rgba.to(device), type(camera)(*(matrix.to(device) for matrix in camera))
        self.height, self.width = self.rgba.shape[1:3]
        self.centers = pixel_centers(self.height, self.width, device=device)

    def views(self, recipe: Recipe) -> Views:
        """The batch, on this device, in the precision that the trainer gave the recipe."""
        chance, dataset = recipe.chance, self.dataset
        layers = self.rgba[recipe.picture].movedim(-1, 1) / 255
        camera = type(self.camera)(*(matrix[recipe.picture] for matrix in self.camera))
        if dataset.scale_jitter:
            larger = zoom(layers, chance.zoom)
            inside = larger[:, 3].flatten(1) >= 0.5
            usable = inside.any(1) & ~inside.all(1)
            layers = torch.where(usable[:, None, None, None], larger, layers)
            camera = camera.zoomed(torch.where(usable, chance.zoom, 1.0))
        color, alpha = layers[:, :3], layers[:, 3]
        if dataset.jitter:
            color = jitter(color, chance.factors, chance.order)
        image = alpha[:, None] * (color * 2 - 1) + (1 - alpha[:, None]) * dataset.background
        focal = camera.intrinsics.diagonal(dim1=-2, dim2=-1)[:, :2]
        size = 2 / (focal * focal.new_tensor([self.width, self.height]))  # of a pixel, along a row and a column
        smallest = size.amin(1, keepdim=True) / 2
        inside, distance = (values.flatten(1) for values in outline_distance(alpha, size))
        weight = importance_weight(distance, smallest)
        density = ray_density(weight, dataset.boundary_fraction)
        pixels = draw_pixels(density, chance.uniform())
        views = Views(
            image=image,
            camera=camera,
            uv=camera.image_plane(self.centers[pixels]),
            color=image.flatten(2).gather(2, pixels[:, None].expand(-1, 3, -1)).mT.contiguous(),
            inside=inside.gather(1, pixels),
            distance=distance.gather(1, pixels),
            weight=weight.gather(1, pixels),
            inverse_density=1 / density.gather(1, pixels),
            points=image.new_zeros(len(image), 0, 3),
            index=recipe.picture,
        )
        return tree_map(lambda tensor: tensor.to(chance.zoom.dtype) if tensor.is_floating_point() else tensor, views)


def jitter(
    image: Float[Tensor, "b 3 h w"], factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"]
) -> Float[Tensor, "b 3 h w"]:
    """`sdfsrn.data.batches.jitter.jitter`, to every picture its own: all but the hue are blends with a grey."""
    luma = image.new_tensor(LUMA)[:, None, None]
    for change in order.unbind(1):
        factor = factors.gather(1, change[:, None])[..., None, None]
        change = change[:, None, None, None]
        grey = (luma * image).sum(1, keepdim=True)
        grey = torch.where(change == 1, grey.mean((2, 3), keepdim=True), grey * (change == 2))
        blend = 1 + 0.2 * factor
        turned = hue(image.movedim(1, 0), factor[:, 0] / 2).movedim(0, 1)
        image = torch.where(change == 3, turned, (blend * image + (1 - blend) * grey).clamp(0, 1))
    return image


def zoom(layers: Float[Tensor, "b 4 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 4 h w"]:
    """`sdfsrn.data.batches.resizing.zoom`, of every picture (colours and alpha in [0, 1]) by its own factor."""
    alpha = layers[:, 3:]
    weighted = torch.cat([layers[:, :3] * alpha, alpha], 1)
    rows, columns = (resampling(size, factor)[:, None] for size in layers.shape[2:])
    zoomed = rows @ weighted @ columns.mT
    color, alpha = zoomed[:, :3], zoomed[:, 3:]
    color = torch.where(alpha > 0, color / alpha.clamp(min=1e-30), 1.0).mul(255).round().clamp(0, 255) / 255
    return torch.cat([color, alpha.clamp(max=1)], 1)


def outline_distance(
    alpha: Float[Tensor, "b h w"], size: Float[Tensor, "b 2"]
) -> tuple[Bool[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """`sdfsrn.data.batches.views.outline_distance` of all pixels, with the width and the height of a pixel of every picture."""
    height, width = alpha.shape[1:]
    rows, columns = (torch.arange(n, device=alpha.device, dtype=alpha.dtype) for n in (height, width))
    inside = alpha >= 0.5
    target = torch.stack([alpha > 0, ~inside], 1)  # whose distance is asked for outside, and inside
    left = torch.where(target, columns, -torch.inf).cummax(-1).values
    right = torch.where(target, columns, torch.inf).flip(-1).cummin(-1).values.flip(-1)
    along = ((torch.minimum(columns - left, right - columns) - 0.5).clamp(min=0) * size[:, None, :1, None]).square()
    across = (((rows - rows[:, None]).abs() - 0.5).clamp(min=0) * size[:, 1:, None]).square()
    squares = [(a[:, None] + c[..., None]).amin(2) for a, c in zip(along, across, strict=True)]  # picture by picture: small
    return inside, torch.stack(squares).sum(1).sqrt()  # one of the two is 0
