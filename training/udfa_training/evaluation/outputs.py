"""Files of an evaluation: one folder, or a single JSON file. Written aside, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from udfa.errors import InvalidInputError
from udfa.volume_io import written_aside
from udfa_training.evaluation.record import Evaluation, write_csv, write_json
from udfa_training.evaluation.tables import report

JSON_SUFFIX = ".json"


def check_output(output: Path) -> None:
    """Raise InvalidInputError if the output exists as something that would have to be replaced."""
    if output.suffix == JSON_SUFFIX:
        if output.is_dir():
            raise InvalidInputError(f"{output} is a folder. Give a file name, or a folder name without .json.")
    elif output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InvalidInputError(f"{output} exists already. Remove it, or give another folder.")


def write_outputs(output: Path, evaluation: Evaluation) -> None:
    """Write a JSON file if `output` ends in .json, else a folder with JSON, CSV, Markdown and pictures."""
    if output.suffix == JSON_SUFFIX:
        with written_aside(output) as aside:
            write_json(aside, evaluation)
        return
    from udfa_training.evaluation.figures import write_figures

    with folder_written_aside(output) as folder:
        write_json(folder / "evaluation.json", evaluation)
        write_csv(folder / "scores.csv", evaluation)
        (folder / "summary.md").write_text(report(evaluation) + "\n", encoding="utf-8")
        write_figures(folder, evaluation)


@contextmanager
def folder_written_aside(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder` to write to, and rename it to `folder` only when all went well.

    Raises:
        InvalidInputError: `folder` exists and is not empty.
    """
    check_output(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=".udfa-", dir=folder.parent))
    # mkdtemp makes folders that only the owner can read; one made within it has ordinary permissions.
    aside = holder / folder.name
    try:
        aside.mkdir()
        yield aside
        if folder.is_dir():
            folder.rmdir()
        aside.rename(folder)
    finally:
        shutil.rmtree(holder, ignore_errors=True)
