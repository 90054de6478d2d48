"""Hydra's callbacks for sweeps: the table at the end, see `configs/paths`; resumed studies, see `configs/hparams_search`."""

from __future__ import annotations

import logging
import math
import pathlib
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from sdfsrn.cli.swept import SweptJob, read_jobs, show, tabulate, write_csv, write_job

log = logging.getLogger(__name__)


class Summary(Callback):
    """Ends a sweep with a table of its jobs, which is also `sweep.csv` in its folder; with failed jobs the exit status is 1.

    Each job's process writes how it ended into `.jobs/`, so that the table is the same with every launcher. A sweep that is
    continued keeps the jobs with a value.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the jobs that failed before."""
        for path, job in read_jobs(_records(config)).items():
            if job.failure is not None:
                path.unlink()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write how a job ended: with the value NaN it failed, since NaN ends a study.

        A failed job of a grid is passed on as one without a value, since the grid would end without its table.
        """
        hydra = config.hydra
        if hydra.mode != RunMode.MULTIRUN:
            return
        value = job_return._return_value
        if job_return.status == JobStatus.COMPLETED and isinstance(value, float) and math.isnan(value):
            log.error("Job %s failed: its value is NaN", hydra.job.num)
            job_return.status, job_return.return_value = JobStatus.FAILED, ValueError("its value is NaN")
        failure = str(job_return._return_value) if job_return.status == JobStatus.FAILED else None
        number = float(value) if failure is None and isinstance(value, int | float) else None
        name = str(pathlib.PurePath(hydra.sweep.subdir))
        job = SweptJob(str(hydra.job.num) if name == "." else name, list(job_return.overrides or ()), number, failure)
        write_job(job, _records(config) / name / f"{hydra.job.num}.json")
        if failure is not None and hydra.runtime.choices["hydra/sweeper"] == "basic":
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show and write the table; end with an error if jobs failed."""
        jobs = list(read_jobs(_records(config)).values())
        if not jobs:
            return
        folder = pathlib.Path(config.hydra.sweep.dir)
        direction = config.hydra.sweeper.get("direction") or _direction(config)
        table = tabulate(jobs, config.get("optimized_metric", "value"), direction)
        show(table)
        write_csv(table, folder / "sweep.csv")
        log.info("Wrote %s", (folder / "sweep.csv").resolve())
        if failed := sum(job.failure is not None for job in jobs):
            raise SystemExit(f"error: {failed} of {len(jobs)} jobs failed; see their logs in {folder}")


class Study(Callback):
    """Continues a stored study of Optuna's sweeper: `n_trials` counts the trials with a value in all calls together.

    The runs of a call are in `from_<its first trial>/`.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the sweep's folder, where the study is stored; reduce `n_trials` to the missing ones."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # lists the parts of the database otherwise
        pathlib.Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        states = self._states(config)
        done = states.count("COMPLETE")
        if states:
            log.info("%d trials of this study have a value, %d failed", done, states.count("FAIL"))
        with read_write(config.hydra):
            config.hydra.sweeper.n_trials = max(0, config.hydra.sweeper.n_trials - done)
            config.hydra.sweeper.direction = config.hydra.sweeper.direction or _direction(config)
            config.hydra.overrides.hydra.append(f"hydra.sweep.subdir=from_{len(states)}/${{hydra.job.num}}")

    def _states(self, config: DictConfig) -> list[str]:
        """The states of all trials so far."""
        import optuna

        sweeper = config.hydra.sweeper
        try:
            study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
        except KeyError:
            return []
        return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def _records(config: DictConfig) -> pathlib.Path:
    """The folder of what the jobs of a sweep write about themselves."""
    return pathlib.Path(config.hydra.sweep.dir) / ".jobs"


def _direction(config: DictConfig) -> str | None:
    """The direction that improves `optimized_metric`: that of `callbacks.best` if it monitors it, else minimize.

    None of a command that does not optimise.
    """
    if "optimized_metric" not in config:
        return None
    best = config.callbacks.get("best")
    more = best is not None and best.monitor == config.optimized_metric and best.mode == "max"
    return "maximize" if more else "minimize"
