"""A Weights & Biases run. wandb itself is imported when a run starts."""

from __future__ import annotations

import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_ARTIFACT_DIR": "artifacts", "WANDB_CACHE_DIR": "cache"}
SUMMARY = {"val/chamfer": "min", "val/iou": "max"}  # of a run, in W&B's table of runs; the last value of the others


_set: set[str] = set()  # the variables of FOLDERS that were set here


def step_key() -> str:
    """Lightning's name of the trainer's step in a W&B run: the key that its logger adds to the values it logs."""
    logged: dict[str, Any] = {}
    recorder: Any = types.SimpleNamespace(log=logged.update)
    WandbLogger(experiment=recorder).log_metrics({}, step=0)
    return next(iter(logged), "")  # outside the main process nothing is logged


class WandbRun(WandbLogger):
    """Lightning's logger with the best values in the run's summary, and checkpoints as artifacts, also offline.

    W&B's own files go to the run's folder, not to the user's home, unless the variables of FOLDERS say otherwise.

    In a run that is resumed online, steps that W&B has are not logged again, since they have the same values.

    Args:
        log_model: at the end of training, log the checkpoints in the run's folder as versions of the artifact
            `model-<run id>`, each under the alias of its name: `best`, `last`. Offline, `wandb sync` uploads them.
        options: of `pytorch_lightning.loggers.WandbLogger`; those it does not know go to `wandb.init`.
    """

    def __init__(self, log_model: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.log_model = log_model
        self._checkpoints: pathlib.Path | None = None  # their folder
        self._logged = -1  # the last step of the resumed run

    @property
    def experiment(self) -> Any:
        """The run, started at the first access; outside the main process, one that ignores everything."""
        if self._experiment is not None:
            return self._experiment
        _keep_files_in(pathlib.Path(self.save_dir or ".").absolute() / "wandb")
        run, key = super().experiment, step_key()
        for name, aggregate in SUMMARY.items():
            run.define_metric(name, step_metric=key, summary=aggregate)
        if getattr(run, "resumed", False) is True:
            self._logged = int(run.summary.get(key, -1))
        return run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log as Lightning does, except for steps that the run has."""
        if not self.has(step):
            super().log_metrics(metrics, step)

    def has(self, step: int | None) -> bool:
        """Whether the run was resumed and holds this step."""
        return self.experiment is not None and step is not None and step <= self._logged

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Store the folder of the checkpoints."""
        self._checkpoints = pathlib.Path(checkpoint_callback.best_model_path).parent

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Log the checkpoints after a training that did not fail."""
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


def _keep_files_in(folder: pathlib.Path) -> None:
    """Set W&B's folders, except those that the user has set; that of its settings only where the home cannot be written."""
    folders = {name: folder / part for name, part in FOLDERS.items()}
    if not _writable(pathlib.Path("~/.config/wandb")):
        folders["WANDB_CONFIG_DIR"] = folder / "config"
    for name, path in folders.items():
        if name in _set or not os.environ.get(name):
            path.mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(path)
            _set.add(name)


def _writable(folder: pathlib.Path) -> bool:
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: no home at all
        return False
