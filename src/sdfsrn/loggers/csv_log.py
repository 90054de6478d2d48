"""A run's numbers in one CSV file, complete also after a crash."""

from __future__ import annotations

import csv
import io
import pathlib
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from sdfsrn.runtime.files import write_atomically


class CSVLog(Logger):
    """`metrics.csv`: one row per logged step, written at once; a resumed run continues its table.

    Args:
        folder: of the table.
        first_step: where the run starts. Rows of this step and later ones are dropped, since they are logged again.
    """

    def __init__(self, folder: str, first_step: int = 0) -> None:
        super().__init__()
        self.path = pathlib.Path(folder) / "metrics.csv"
        self.first_step = first_step
        self._columns: list[str] = []  # none before the first row

    @property
    def name(self) -> str:
        """Empty: the folder is the run's."""
        return ""

    @property
    def version(self) -> str:
        """The folder's name."""
        return self.path.parent.name

    @property
    def log_dir(self) -> str:
        """The folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's folder holds its configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row; a new metric becomes a column."""
        row = {"step": step, **metrics}
        if not self._columns:
            self._write(self._earlier_rows())
        if set(row) - set(self._columns):
            self._write(self._rows(), sorted(row))
        stream = io.StringIO()
        csv.DictWriter(stream, self._columns, lineterminator="\n").writerow(row)
        try:
            with self.path.open("a", newline="") as file:
                file.write(stream.getvalue())
        except OSError as error:
            raise OSError(f"Could not write {self.path}: {error.strerror or error}.") from error

    def _earlier_rows(self) -> list[dict[str, str]]:
        """The rows before the run's first step, of the part of the run that it resumes."""
        return [row for row in self._rows() if int(row["step"]) < self.first_step] if self.path.is_file() else []

    def _rows(self) -> list[dict[str, str]]:
        """All rows except an incomplete last one, left by a killed process."""
        text = self.path.read_text()
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))

    def _write(self, rows: list[dict[str, str]], names: list[str] | None = None) -> None:
        columns = list(dict.fromkeys(["step", *(rows[0] if rows else self._columns), *(names or ())]))
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, stream.getvalue().encode())
        self._columns = columns
