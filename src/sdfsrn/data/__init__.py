"""Data sets: sources of pictures, and the data modules that make batches of them."""

from sdfsrn.data.batches.datamodule import SourceDataModule, ViewsDataModule
from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.batches.views import BatchSettings, make_views
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.source import GroundTruth, ImageSample, Source
from sdfsrn.data.sources.folder import FolderDataModule, FolderSource
from sdfsrn.data.sources.pascal3d import Pascal3DDataModule, Pascal3DSource
from sdfsrn.data.sources.shapenet import ShapeNetDataModule, ShapeNetSource
from sdfsrn.data.sources.synthetic import SyntheticDataModule, SyntheticSource

__all__ = [
    "BatchSettings",
    "FolderDataModule",
    "FolderSource",
    "GroundTruth",
    "ImageSample",
    "Pascal3DDataModule",
    "Pascal3DSource",
    "PictureDataset",
    "Preprocessing",
    "ShapeNetDataModule",
    "ShapeNetSource",
    "Source",
    "SourceDataModule",
    "SyntheticDataModule",
    "SyntheticSource",
    "ViewsDataModule",
    "make_views",
]
