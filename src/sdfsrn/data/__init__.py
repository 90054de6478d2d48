"""Data sets: sources of pictures, and the data modules that make batches of them."""

from sdfsrn.data.datamodule import ShapeNetDataModule, SyntheticDataModule, ViewsDataModule
from sdfsrn.data.shapenet import ShapeNetSource
from sdfsrn.data.synthetic import SyntheticSource
from sdfsrn.data.views import Picture, Source, ViewsDataset, collate_views

__all__ = [
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
