"""What a run writes down on its way: CSV files and TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path

from udfa_training.csv_table import CsvTable
from udfa_training.validation import ValidationReport


class Journal:
    """Log of steps and validations; a resumed run continues it as if it had not been interrupted.

    Args:
        output: Folder of the run: `log.csv` and `tensorboard/`.
        tasks: Names of the tasks; each has `validation.csv` in its own folder, or in `output` when its name is empty.
        step: Steps done.
        validated: Step of the last validation.
    """

    def __init__(self, output: Path, tasks: list[str], step: int, validated: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.steps = CsvTable(output / "log.csv", step)
        for name in tasks:
            (output / name).mkdir(exist_ok=True)
        self.validations = {name: CsvTable(output / name / "validation.csv", validated) for name in tasks}
        self.board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1 if step else None)
        self.last = time.monotonic()
        self.started = self.last - float(self.steps.rows[-1].get("seconds") or 0 if self.steps.rows else 0)
        self.images = 0

    def count(self, images: int) -> None:
        """Count images that were trained on."""
        self.images += images

    def log_step(self, step: int, loss: float, learning_rate: float, task: str = "") -> None:
        """Write a row of the log, with the speed since the row before."""
        now = time.monotonic()
        speed = self.images / max(now - self.last, 1e-9)
        self.images, self.last = 0, now
        row = {
            "step": step,
            "loss": loss,
            "seconds": round(now - self.started, 3),
            "learning_rate": learning_rate,
            "images_per_second": round(speed, 3),
        }
        self.steps.append({**row, "task": task} if task else row)
        for name, value in (("loss", loss), ("learning_rate", learning_rate), ("images_per_second", speed)):
            self.board.add_scalar("/".join(filter(None, ("train", task, name))), value, step)

    def log_validation(self, step: int, report: ValidationReport, task: str = "") -> None:
        """Write a row of the validations of a task."""
        self.validations[task].append({"step": step, "mean_dice": report.mean_dice, **report.dice})
        for name, value in {"mean": report.mean_dice, **report.dice}.items():
            self.board.add_scalar("/".join(filter(None, ("dice", task, name))), value, step)
        self.board.flush()
        self.last, self.images = time.monotonic(), 0

    def close(self) -> None:
        """Write what is still in memory."""
        self.board.close()
