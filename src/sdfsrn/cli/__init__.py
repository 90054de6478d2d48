"""Parts of the commands."""

from sdfsrn.cli.folders import OutputFolder
from sdfsrn.cli.sweeps import Study, Summary

__all__ = ["OutputFolder", "Study", "Summary"]
