"""SoftRas and CMR: models whose shapes are deformed spheres, rendered softly."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from sdfsrn.losses import Objective
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models.meshes import Meshes
from sdfsrn.models.pose import GivenPose
from sdfsrn.models.rasterizer import MeshRendering, SoftRasterizer
from sdfsrn.structures import Views
from sdfsrn.system import OptimizerFactory, SchedulerFactory, ShapeModel, check_latent_dim, full_precision


class MeshModel(ShapeModel):
    """Meshes of fixed connectivity, learned from silhouettes by soft rasterisation.

        views.image --encoder--> latent --decoder--> meshes: a deformed sphere per object
        meshes, views.camera --rasterizer--> rendering: soft silhouette, visible surface, colours
        meshes, rendering, views --losses--> the weighted sum of the losses

    Liu et al., Soft Rasterizer, ICCV 2019 (SoftRas); Kanazawa et al., ECCV 2018 (CMR), with known cameras and no keypoints.

    Args:
        encoder: image to latent code, with `latent_dim`.
        decoder: latent code and image to `Meshes`, with `latent_dim`.
        rasterizer: (meshes, camera, size) to `MeshRendering`.
        losses: (meshes, rendering, views) to the loss and its terms.
        optimizer, scheduler, validation, pose: see `ShapeModel`.
    """

    whole_pictures = True
    capturable = False  # the number of pairs of triangles and pixels depends on the shapes

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        rasterizer: SoftRasterizer,
        losses: Objective,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        validation: EvaluationProtocol | None = None,
        pose: GivenPose | None = None,
    ) -> None:
        super().__init__(losses, optimizer, scheduler, validation, pose)
        check_latent_dim(encoder, decoder, "decoder")
        self.encoder, self.decoder, self.rasterizer = encoder, decoder, rasterizer

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Latent codes of images with colours in [-1, 1]."""
        latent: Tensor = self.encoder(image)
        return latent

    def decode(self, latent: Float[Tensor, "b l"], image: Float[Tensor, "b 3 h w"] | None = None) -> Meshes:
        """The meshes of latent codes; colours are taken from the images, where the decoder knows how."""
        with full_precision(latent):
            meshes: Meshes = self.decoder(latent, image)
        return meshes

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Meshes:
        """The meshes of the objects in the images (colours in [-1, 1])."""
        return self.decode(self.encode(image).to(image.dtype), image)

    def render(self, shape: Meshes, views: Views) -> MeshRendering:
        """The meshes in the views' pictures.

        Raises:
            ValueError: the views do not have all pixels.
        """
        height, width = views.image.shape[-2:]
        if views.uv.shape[1] != height * width:
            raise ValueError(
                f"Expected data.num_rays=null with a mesh model, since it renders all {height * width} pixels of a picture, "
                f"got {views.uv.shape[1]} rays."
            )
        with full_precision(views.uv):
            rendering: MeshRendering = self.rasterizer(shape, views.camera, (height, width))
        return rendering

    def surface_found(self, rendering: MeshRendering) -> Bool[Tensor, "b r"]:
        """Which pixels the soft silhouette covers by more than half."""
        found: Tensor = rendering.alpha > 0.5
        return found
