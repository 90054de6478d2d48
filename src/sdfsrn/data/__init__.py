"""Data sets: sources of pictures, and the data modules that make batches of them."""

from sdfsrn.data.datamodule import ViewsDataModule
from sdfsrn.data.folder import FolderDataModule, FolderSource
from sdfsrn.data.pascal3d import Pascal3DDataModule, Pascal3DSource
from sdfsrn.data.shapenet import ShapeNetDataModule, ShapeNetSource
from sdfsrn.data.source import Picture, Source
from sdfsrn.data.synthetic import SyntheticDataModule, SyntheticSource
from sdfsrn.data.views import ViewsDataset, collate_views

__all__ = [
    "FolderDataModule",
    "FolderSource",
    "Pascal3DDataModule",
    "Pascal3DSource",
    "Picture",
    "ShapeNetDataModule",
    "ShapeNetSource",
    "Source",
    "SyntheticDataModule",
    "SyntheticSource",
    "ViewsDataModule",
    "ViewsDataset",
    "collate_views",
]
