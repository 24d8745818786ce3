"""One set of rules for all loops: what a resumed run must repeat, and that its log has no step twice."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from udfa.errors import InvalidInputError
from udfa_training import budget_loop
from udfa_training.budget_loop import Budget, run_budget
from udfa_training.fit import fit
from udfa_training.fit_config import FitConfig
from udfa_training.resume_rules import FREE, check_settings, fixed_settings

STATE = Path("run/last.pt")


class OneWeight(nn.Module):
    """A weight that is drawn towards the numbers of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, numbers: Tensor, label: Tensor, seed: int) -> Tensor:
        return ((self.weight - numbers) ** 2).mean()


class Numbers(Dataset[tuple[Tensor, Tensor]]):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([float(index)]), torch.zeros(1)


BUDGET = Budget(steps=5, batch_size=1, accelerator="cpu", precision="32-true", save_every=1)


def run_numbers(output: Path, stop_after: int, settings: dict[str, Any] | None = None) -> None:
    run_budget(OneWeight(), Numbers(), BUDGET, output, settings or {}, stop_after)


def run_fit(settings: Callable[..., FitConfig]) -> Callable[[Path, int], None]:
    common = {"steps": 5, "log_every": 1, "train": "heads"}
    return lambda output, stop_after: fit(settings(output=str(output), **common), stop_after) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("loop", ["fit", "budget"])
def test_a_run_that_broke_off_after_its_last_saved_state_logs_no_step_twice(
    loop: str, settings: Callable[..., FitConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_loop, "LOG_EVERY", 1)
    run = run_numbers if loop == "budget" else run_fit(settings)
    output = tmp_path / "run"
    run(output, 1)
    shutil.copy(output / "last.pt", tmp_path / "kept.pt")
    run(output, 3)
    # A crash between the log of step 3 and its saving: the newest whole state is that of step 1.
    shutil.copy(tmp_path / "kept.pt", output / "last.pt")
    run(output, 4)
    with (output / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_a_difference_is_named_by_its_path_and_all_are_listed() -> None:
    saved = {"seed": 0, "augment": {"scale": 0.25, "flip": 0}, "sources": [{"spacing": 4.0}, {"spacing": 2.0}]}
    wanted = {"seed": 1, "augment": {"scale": 0.1, "flip": 0}, "sources": [{"spacing": 4.0}, {"spacing": 1.0}]}
    with pytest.raises(InvalidInputError) as raised:
        check_settings(saved, wanted, STATE)
    assert "(seed was 0, now 1; augment.scale was 0.25, now 0.1; sources.1.spacing was 2.0, now 1.0)" in str(
        raised.value
    )
    assert "run/last.pt holds" in str(raised.value)
    assert "another output folder" in str(raised.value)


def test_settings_that_a_state_does_not_record_are_not_compared_but_lost_ones_are() -> None:
    check_settings({"seed": 0, "augment": {}}, {"seed": 0, "augment": {"scale": 0.1}, "pull": 1.0}, STATE)
    with pytest.raises(InvalidInputError, match="pull was 1.0, now None"):
        check_settings({"seed": 0, "pull": 1.0}, {"seed": 0}, STATE)


def test_lists_of_another_length_differ() -> None:
    with pytest.raises(InvalidInputError, match="sources was"):
        check_settings({"sources": [{"a": 1}]}, {"sources": [{"a": 1}, {"a": 2}]}, STATE)


def test_place_length_and_rhythm_of_a_run_are_free_to_change() -> None:
    @dataclass(frozen=True)
    class Settings:
        seed: int = 0
        devices: int = 1
        steps: int = 5
        window: tuple[int, int] = (0, 1)

    assert fixed_settings(Settings(devices=4)) == {"seed": 0, "window": [0, 1]}
    assert fixed_settings(Settings(), FREE - {"steps"}) == {"seed": 0, "window": [0, 1], "steps": 5}


def test_both_loops_refuse_other_settings_in_the_same_words(settings: Callable[..., FitConfig], tmp_path: Path) -> None:
    first = settings(steps=2, train="heads", output=str(tmp_path / "fit"))
    fit(first, stop_after=1)
    with pytest.raises(InvalidInputError, match=r"last.pt holds a run with other settings \(seed was 0, now 3\)"):
        fit(dataclasses.replace(first, seed=3))
    run_numbers(tmp_path / "budget", 1, {"seed": 0})
    with pytest.raises(InvalidInputError, match=r"last.pt holds a run with other settings \(seed was 0, now 3\)"):
        run_numbers(tmp_path / "budget", 2, {"seed": 3})


def test_a_damaged_state_is_named_by_both_loops(settings: Callable[..., FitConfig], tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"half")
    with pytest.raises(InvalidInputError, match="last.pt is damaged.*Remove it"):
        fit(settings(train="heads", output=str(tmp_path)))
    with pytest.raises(InvalidInputError, match="last.pt is damaged.*Remove it"):
        run_numbers(tmp_path, 1)
