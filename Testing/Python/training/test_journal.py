"""What a run writes down: CSV rows and TensorBoard, continued by a resumed run as if it had not been interrupted."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from udfa_training.journal import CsvTable, Journal
from udfa_training.validation import ValidationReport


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(output: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag to (step, value) of all TensorBoard files of a run."""
    events = EventAccumulator(str(output / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_steps_beyond_the_last_saved_one_are_dropped_when_a_run_resumes(tmp_path: Path) -> None:
    table = CsvTable(tmp_path / "log.csv", 0)
    for step in (1, 2, 3):
        table.append({"step": step, "loss": step / 10})
    CsvTable(tmp_path / "log.csv", 2).append({"step": 3, "loss": 0.7})
    assert rows(tmp_path / "log.csv") == [
        {"step": "1", "loss": "0.1"},
        {"step": "2", "loss": "0.2"},
        {"step": "3", "loss": "0.7"},
    ]


def test_the_seconds_of_a_resumed_run_count_on(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss,seconds\n20,0.5,3600.0\n40,0.4,7200.0\n")
    journal = Journal(tmp_path, [""], 30, 0)
    journal.log_step(40, 0.3, 0.001)
    journal.close()
    seconds = [float(row["seconds"]) for row in rows(tmp_path / "log.csv")]
    assert seconds == [3600.0, pytest.approx(3600.0, abs=60.0)]
    assert seconds[1] >= 3600.0


def test_a_log_of_an_older_version_gets_the_new_columns(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n20,0.5\n")
    table = CsvTable(tmp_path / "log.csv", 20)
    table.append({"step": 40, "loss": 0.4, "learning_rate": 0.001})
    assert rows(tmp_path / "log.csv")[0] == {"step": "20", "loss": "0.5", "learning_rate": ""}
    assert rows(tmp_path / "log.csv")[1]["learning_rate"] == "0.001"


def test_loss_learning_rate_speed_and_dice_are_in_tensorboard(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [""], 0, 0)
    journal.count(24)
    journal.log_step(10, 0.5, 0.001)
    journal.log_validation(10, ValidationReport({"c": {"liver": 0.8, "spleen": 0.6}}))
    journal.close()
    found = scalars(tmp_path)
    assert found["train/loss"] == [(10, 0.5)]
    assert found["train/learning_rate"] == [(10, pytest.approx(0.001))]
    assert found["train/images_per_second"][0][1] > 0
    assert found["dice/liver"] == [(10, pytest.approx(0.8))]
    assert found["dice/mean"] == [(10, pytest.approx(0.7))]
    assert rows(tmp_path / "validation.csv") == [
        {"step": "10", "mean_dice": "0.7", "liver": "0.8", "spleen": "0.6"},
    ]


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    for start, values in ((0, {1: 0.9, 2: 0.8, 3: 0.7}), (1, {2: 0.6, 3: 0.5})):
        journal = Journal(tmp_path, [""], start, start)
        for step, value in values.items():
            journal.log_step(step, value, 0.1)
        journal.close()
        # TensorBoard reads files in the order of their names, which begin with the second in which they were made.
        (file,) = (tmp_path / "tensorboard").glob(f"*.{os.getpid()}.*")
        file.rename(file.with_name(f"events.out.tfevents.{start:010d}.test"))
    assert scalars(tmp_path)["train/loss"] == [
        (1, pytest.approx(0.9)),
        (2, pytest.approx(0.6)),
        (3, pytest.approx(0.5)),
    ]


def test_the_speed_counts_the_images_since_the_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 115.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    journal = Journal(tmp_path, [""], 0, 0)
    for step, images in ((1, 40), (2, 60)):
        journal.count(images)
        journal.log_step(step, 0.5, 0.001)
    monkeypatch.undo()
    journal.close()
    assert [float(row["images_per_second"]) for row in rows(tmp_path / "log.csv")] == [4.0, 12.0]


def test_each_of_several_tasks_has_its_validations_in_its_own_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ["abdomen", "cardiac"], 0, 0)
    journal.log_validation(5, ValidationReport({"c": {"liver": 0.8}}), "abdomen")
    journal.log_validation(5, ValidationReport({"c": {"myocardium": 0.7}}), "cardiac")
    journal.close()
    assert rows(tmp_path / "abdomen" / "validation.csv")[0]["liver"] == "0.8"
    assert rows(tmp_path / "cardiac" / "validation.csv")[0]["myocardium"] == "0.7"
    assert set(scalars(tmp_path)) == {"dice/abdomen/liver", "dice/abdomen/mean"} | {
        "dice/cardiac/myocardium",
        "dice/cardiac/mean",
    }
