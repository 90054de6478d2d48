"""SDF-SRN: signed distance functions of objects, learned from single-view images and silhouettes. arXiv:2010.10505."""

from sdfsrn.runtime.threads import limit_spinning

limit_spinning()  # before any import of torch

from sdfsrn.baselines import DVR, MeshModel
from sdfsrn.checkpoints.authors import load_authors_checkpoint
from sdfsrn.checkpoints.exporting import export
from sdfsrn.checkpoints.loading import load
from sdfsrn.cli.building import build
from sdfsrn.functional.camera import Rays
from sdfsrn.functional.isosurface import Grid
from sdfsrn.inference import reconstruct, refine
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models.shape import Shape
from sdfsrn.runtime.version import VERSION
from sdfsrn.structures import March, Rendering, Views
from sdfsrn.system import SDFSRN, ShapeModel

__version__ = VERSION
__all__ = [
    "DVR",
    "SDFSRN",
    "EvaluationProtocol",
    "Grid",
    "March",
    "MeshModel",
    "Rays",
    "Rendering",
    "Shape",
    "ShapeModel",
    "Views",
    "build",
    "export",
    "load",
    "load_authors_checkpoint",
    "reconstruct",
    "refine",
]
