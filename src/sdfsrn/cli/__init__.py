"""Parts of the commands."""

from sdfsrn.cli.command import OutputFolder
from sdfsrn.cli.sweeps import Study

__all__ = ["OutputFolder", "Study"]
