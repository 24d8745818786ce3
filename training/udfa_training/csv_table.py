"""The CSV files of a run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from udfa.volume_io import written_aside


class CsvTable:
    """A CSV file whose rows have a column `step`. Columns may be added later.

    Args:
        path: The file.
        last_step: Rows beyond this step, of a run that broke off later than its last saved state, are dropped.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= last_step]
            self._rewrite()

    def append(self, row: dict[str, Any]) -> None:
        """Add a row."""
        known = set(self.rows[0]) if self.rows else set()
        self.rows.append(row)
        if set(row) - known:
            self._rewrite()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, list(self.rows[0])).writerow(row)

    def _rewrite(self) -> None:
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        self.rows = [{column: row.get(column, "") for column in columns} for row in self.rows]
        with written_aside(self.path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
