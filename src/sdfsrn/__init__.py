"""SDF-SRN: signed distance functions of objects, learned from single-view images and silhouettes. arXiv:2010.10505."""

from importlib.metadata import version

from sdfsrn.authors import load_authors_checkpoint
from sdfsrn.inference import reconstruct
from sdfsrn.protocol import Protocol
from sdfsrn.structures import March, Rays, Views
from sdfsrn.system import SDFSRN

__version__ = version("sdfsrn")
__all__ = ["SDFSRN", "March", "Protocol", "Rays", "Views", "load_authors_checkpoint", "reconstruct"]
