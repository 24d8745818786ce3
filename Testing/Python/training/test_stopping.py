"""How a run stops: Ctrl+C, a full disk, a killed loader process. The last saved state stays whole, and it says so."""

from __future__ import annotations

import csv
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.data import get_worker_info

from udfa.config import to_dict
from udfa.errors import CancelledError, UDFAError
from udfa_training import fit as fitting
from udfa_training import stopping
from udfa_training.cli import main
from udfa_training.dataset import SliceDataset
from udfa_training.fit import fit
from udfa_training.fit_config import FitConfig
from udfa_training.stopping import StopRequest, failures_explained
from udfa_training.training_state import update_average

Settings = Callable[..., FitConfig]


def saved(config: FitConfig) -> dict[str, Any]:
    record: dict[str, Any] = torch.load(Path(config.output) / "last.pt", weights_only=True)
    return record


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl+C within the first step of the first run."""
    pending = [signal.SIGINT]

    def interrupted(state: Any, decay: float) -> None:
        if pending:
            os.kill(os.getpid(), pending.pop())
        update_average(state, decay)

    monkeypatch.setattr(fitting, "update_average", interrupted)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_finishes_the_step_and_saves_it(settings: Settings, tmp_path: Path) -> None:
    config = settings(steps=2, save_every=100)
    with pytest.raises(CancelledError, match=r"Stopped after step 1\. .*last\.pt holds the state; the same command"):
        fit(config)
    assert saved(config)["step"] == 1
    fit(config)
    whole = settings(steps=2, save_every=100, output=str(tmp_path / "whole"))
    fit(whole, stop_after=1)
    fit(whole)
    expected, average = saved(whole)["average"], saved(config)["average"]
    assert all(torch.equal(value, average[key]) for key, value in expected.items())


@pytest.mark.usefixtures("ctrl_c")
def test_a_validation_that_ctrl_c_kept_from_running_is_made_up_for(settings: Settings) -> None:
    config = settings(steps=2, validate_every=1)
    with pytest.raises(CancelledError):
        fit(config)
    assert (saved(config)["step"], saved(config)["validated"]) == (1, 0)
    fit(config)
    with (Path(config.output) / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


@pytest.mark.usefixtures("ctrl_c")
def test_the_command_ends_with_the_exit_code_of_an_interrupted_program(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(to_dict(settings(steps=5))))
    with pytest.raises(SystemExit) as raised:
        main(["fit", "--config", str(path)])
    assert raised.value.code == 130
    assert "udfa-train: Stopped after step 1." in capsys.readouterr().err


def test_a_second_ctrl_c_ends_at_once_and_handlers_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.asked
        # A launcher passes on what the terminal has sent already.
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        monkeypatch.setattr(stopping, "SECOND_AFTER_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_as_schedulers_send_it_asks_to_stop_too() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked


def test_a_full_disk_leaves_the_state_before_it_and_ends_with_exit_code_1(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = settings(steps=3), tmp_path / "tiny.yaml"
    fit(config, stop_after=1)
    last = Path(config.output) / "last.pt"
    before = last.read_bytes()
    path.write_text(yaml.safe_dump(to_dict(config)))
    with files_limited_to(1_000_000):
        assert main(["fit", "--config", str(path)]) == 1
    message = capsys.readouterr().err
    assert "udfa-train: Reading or writing failed after step 2" in message
    assert f"{last} holds an earlier state. Free space" in message
    assert last.read_bytes() == before
    assert not list(last.parent.glob(".udfa-*"))


def test_a_killed_loader_process_is_named_and_the_state_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(steps=9, workers=1)
    fit(config, stop_after=1)
    original = SliceDataset.__getitem__

    def killed(self: SliceDataset, index: int) -> Any:
        if index >= 8 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, index)

    monkeypatch.setattr(SliceDataset, "__getitem__", killed)
    with pytest.raises(
        UDFAError, match=r"A loader process was killed.*last\.pt holds an earlier state.*fewer --workers"
    ):
        fit(config)
    assert 1 <= saved(config)["step"] <= 4


def test_a_loader_process_that_dies_while_the_state_is_written_is_not_taken_for_a_full_disk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(steps=9)
    fit(config, stop_after=1)

    def interrupted(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(UDFAError, match=r"A loader process was killed.*last\.pt holds an earlier state"):
        fit(config)
    assert saved(config)["step"] == 1


def test_short_memory_says_how_to_need_less(tmp_path: Path) -> None:
    complaint = r"Memory ran out after step 3.*Nothing had been saved.*twice accumulate"
    with pytest.raises(UDFAError, match=complaint), failures_explained(tmp_path / "last.pt", lambda: 3):
        raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")


def test_an_error_of_the_program_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), failures_explained(tmp_path / "last.pt", lambda: 3):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_damaged_state_is_named(settings: Settings) -> None:
    config = settings()
    Path(config.output).mkdir()
    (Path(config.output) / "last.pt").write_bytes(b"half a fi")
    with pytest.raises(UDFAError, match=r"last\.pt is damaged .*Remove it to start the run anew"):
        fit(config)
