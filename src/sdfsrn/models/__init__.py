"""The learned parts: encoders, hypernetwork with its field, mesh decoders, renderers."""

from sdfsrn.models.encoder import ConvEncoder, ResNetEncoder
from sdfsrn.models.field import Field, FieldConfig, Linear
from sdfsrn.models.flat_encoder import FlatConvEncoder, FlatResNetEncoder
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.models.implicit import ImplicitShape
from sdfsrn.models.meshes import Meshes, SphereTemplate, Texture
from sdfsrn.models.occupancy import OccupancyDecoder, OccupancyField
from sdfsrn.models.occupancy_marcher import OccupancyMarcher
from sdfsrn.models.pose import GivenPose, PoseResidual
from sdfsrn.models.rasterizer import MeshRendering, SoftRasterizer
from sdfsrn.models.raymarcher import DenseRayMarcher, LSTMRayMarcher, SphereTracer
from sdfsrn.models.shape import Shape
from sdfsrn.models.template import DeformationDecoder, MeshDecoder
from sdfsrn.models.texture import TextureFlow

__all__ = [
    "ConvEncoder",
    "DeformationDecoder",
    "DenseRayMarcher",
    "Field",
    "FieldConfig",
    "FlatConvEncoder",
    "FlatResNetEncoder",
    "GivenPose",
    "Hypernetwork",
    "ImplicitShape",
    "LSTMRayMarcher",
    "Linear",
    "MeshDecoder",
    "MeshRendering",
    "Meshes",
    "OccupancyDecoder",
    "OccupancyField",
    "OccupancyMarcher",
    "PoseResidual",
    "ResNetEncoder",
    "Shape",
    "SoftRasterizer",
    "SphereTemplate",
    "SphereTracer",
    "Texture",
    "TextureFlow",
]
