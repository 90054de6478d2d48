"""Resuming and exit status for Hydra's Optuna sweeper, see `configs/hparams_search/optuna.yaml`."""

from __future__ import annotations

import logging
import math
import pathlib
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

log = logging.getLogger(__name__)


class Study(Callback):
    """Continues a stored study: `n_trials` counts the trials with a value in all calls together.

    The runs of a call are in `from_<its first trial>/`. A sweep with failed trials has the exit status 1.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the sweep's folder, where the study is stored; reduce `n_trials` to the missing ones."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # lists the parts of the database otherwise
        pathlib.Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        states = self._states(config)
        self._before, done = len(states), states.count("COMPLETE")
        if states:
            log.info("%d trials of this study have a value, %d failed", done, states.count("FAIL"))
        with read_write(config.hydra):
            config.hydra.sweeper.n_trials = max(0, config.hydra.sweeper.n_trials - done)
            config.hydra.sweeper.direction = config.hydra.sweeper.direction or _direction(config)
            config.hydra.overrides.hydra.append(f"hydra.sweep.subdir=from_{self._before}/${{hydra.job.num}}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Turn a trial with the value NaN into a failed one, since NaN would end the sweep."""
        if job_return.status == JobStatus.COMPLETED and math.isnan(job_return.return_value or 0):
            log.error("Job %s failed: its value is NaN", config.hydra.job.num)
            job_return.status, job_return.return_value = JobStatus.FAILED, ValueError("its value is NaN")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End with an error if trials failed."""
        states = self._states(config)[self._before :]
        if failed := states.count("FAIL"):
            raise SystemExit(f"error: {failed} of {len(states)} trials failed; see their logs in {config.hydra.sweep.dir}")

    def _states(self, config: DictConfig) -> list[str]:
        """The states of all trials so far."""
        import optuna

        sweeper = config.hydra.sweeper
        try:
            study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
        except KeyError:
            return []
        return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def _direction(config: DictConfig) -> str:
    """The direction that improves `optimized_metric`: that of `callbacks.best` if it monitors it, else minimize."""
    best = config.callbacks.get("best")
    more = best is not None and best.monitor == config.optimized_metric and best.mode == "max"
    return "maximize" if more else "minimize"
