"""Parts of the commands."""

from sdfsrn.cli.command import OutputFolder
from sdfsrn.cli.sweeps import Study, Summary

__all__ = ["OutputFolder", "Study", "Summary"]
