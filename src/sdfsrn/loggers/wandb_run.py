"""A Weights & Biases run. wandb itself is imported when a run begins, not before."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

SUMMARY = {"val/chamfer": "min", "val/iou": "max"}  # of a run, in W&B's table of runs; the last value of the others


class WandbRun(WandbLogger):
    """Lightning's logger; the run's summary holds the best values, and checkpoints become artifacts, also offline.

    Of a run that is resumed online, steps that W&B has are not logged again: they come out the same.

    Args:
        log_model: at the end of training, log the checkpoints in the run's folder as versions of the artifact
            `model-<run id>`, each under the alias of its name: `best`, `last`. Offline, `wandb sync` uploads them.
        options: of `pytorch_lightning.loggers.WandbLogger`; those it does not know go to `wandb.init`.
    """

    def __init__(self, log_model: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.log_model = log_model
        self._checkpoints: pathlib.Path | None = None  # their folder
        self._logged = -1  # the last step of a part of the run before this one

    @property
    def experiment(self) -> Any:
        """The run, begun when first asked for; one that ignores everything outside the main process."""
        begins = self._experiment is None
        run = super().experiment
        for name, aggregate in SUMMARY.items() if begins else ():
            run.define_metric(name, step_metric="trainer/global_step", summary=aggregate)
        if begins and getattr(run, "resumed", False) is True:
            self._logged = int(run.summary.get("trainer/global_step", -1))
        return run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lightning's, but for steps that the run has."""
        if not self.has(step):
            super().log_metrics(metrics, step)

    def has(self, step: int | None) -> bool:
        """The run was resumed and holds this step already."""
        return self.experiment is not None and step is not None and step <= self._logged

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember where they are."""
        self._checkpoints = pathlib.Path(checkpoint_callback.best_model_path).parent

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """After training that did not fail, log the checkpoints."""
        import wandb

        if status != "success" or not self.log_model or self._checkpoints is None:
            return
        for path in sorted(self._checkpoints.glob("*.ckpt")):
            artifact = wandb.Artifact(f"model-{self.experiment.id}", "model", metadata={"original_filename": path.name})
            artifact.add_file(str(path), name="model.ckpt")
            self.experiment.log_artifact(artifact, aliases=[path.stem])
        self._checkpoints = None

    @rank_zero_only
    def finish(self, failed: bool = False) -> None:
        """End the run, so that another training in this process gets its own."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(failed))
