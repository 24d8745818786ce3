"""The installation, driven with services that record what is asked of them: nothing is installed here."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from doubles.fakes import MemoryStore
from udfa.errors import UDFAError
from UDFASegmentationLib.EnvironmentCheck import Problem, TorchState
from UDFASegmentationLib.Installation import (
    DECLINED,
    FAILED,
    PENDING_KEY,
    PENDING_SECONDS,
    READY,
    RESTARTING,
    Installation,
)
from UDFASegmentationLib.InstallationServices import Services, Status

TIMM = "timm>=1.0.9"
GOOD = TorchState("good", "2.6.0")


class Computer:
    """A pretended computer: what is installed, what goes wrong, and everything that was asked of it in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers: list[bool] = []
        self.torchState = TorchState("absent")
        self.missing = [TIMM]
        self.visionMissing = False
        self.clashList: list[str] = []
        self.shadow: Problem | None = None
        self.problemList: list[Problem] = []
        self.failures: list[str] = []
        self.extensionLoaded = True
        self.extensionInstalled = True
        self.extensionFails = False
        self.torchFails: Exception | bool = False
        self.pipFails: Exception | None = None
        self.removeFails: OSError | None = None
        self.inUse = False
        self.asked: list[str] = []
        self.told: list[str] = []
        self.store = MemoryStore()
        self.now = 1_000_000.0
        self.session = "first"

    # dialogs
    def confirm(self, text, title, detailedText=""):
        self.asked.append(text)
        return self.answers.pop(0)

    def inform(self, text, title):
        self.told.append(text)

    # probe
    def status(self, requirements):
        return Status(
            self.torchState, tuple(self.missing), self.visionMissing, tuple(self.clashList), shadow=self.shadow
        )

    def problems(self):
        return self.problemList

    def selfTest(self):
        self.calls.append("selfTest")
        return self.failures

    def torchInUse(self):
        return self.inUse

    def restart(self):
        self.calls.append("restart")


class Pip:
    def __init__(self, computer):
        self.computer = computer

    def install(self, requirements):
        self.computer.calls.append(f"pip {' '.join(requirements)}")
        if self.computer.pipFails:
            raise self.computer.pipFails
        self.computer.missing = [r for r in self.computer.missing if r not in requirements]


class Torch:
    def __init__(self, computer):
        self.computer = computer

    def isAvailable(self):
        return self.computer.extensionLoaded

    def isInstalled(self):
        return self.computer.extensionInstalled

    def installExtension(self):
        self.computer.calls.append("extension")
        self.computer.extensionInstalled = not self.computer.extensionFails
        return self.computer.extensionInstalled

    def install(self, torchRange, torchvisionRange):
        self.computer.calls.append(f"torch {torchRange} {torchvisionRange}")
        if isinstance(self.computer.torchFails, Exception):
            raise self.computer.torchFails
        if self.computer.torchFails:
            return False
        self.computer.torchState, self.computer.visionMissing, self.computer.clashList = GOOD, False, []
        return True

    def remove(self):
        self.computer.calls.append("remove torch")
        if self.computer.removeFails:
            raise self.computer.removeFails
        self.computer.torchState = TorchState("absent")


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text(f"# why\nnumpy>=1.26\ntorch>=2.4\ntorchvision>=0.19\n\n{TIMM}  # models\n", encoding="utf-8")
    return path


@pytest.fixture
def computer() -> Computer:
    return Computer()


def start(computer: Computer, requirements: Path) -> Installation:
    services = Services(
        dialogs=computer,
        packages=Pip(computer),
        torch=Torch(computer),
        store=computer.store,
        restart=computer.restart,
        clock=lambda: computer.now,
        session=computer.session,
        probe=computer,
    )
    return Installation(requirements, services)


def test_when_everything_is_there_nothing_is_asked_and_pip_is_not_called(computer, requirements):
    computer.torchState, computer.missing = GOOD, []
    assert start(computer, requirements).ensureReady().outcome == READY
    assert computer.calls == []
    assert computer.asked == []


def test_after_it_was_ready_once_it_does_not_look_again(computer, requirements):
    computer.torchState, computer.missing = GOOD, []
    installation = start(computer, requirements)
    installation.ensureReady()
    computer.torchState = TorchState("absent")
    assert installation.ensureReady().ready


def test_the_user_is_asked_once_and_torch_comes_before_timm(computer, requirements):
    computer.answers = [True]
    assert start(computer, requirements).ensureReady().ready
    assert computer.calls == ["torch >=2.4 >=0.19", f"pip {TIMM}", "selfTest"]
    assert len(computer.asked) == 1
    assert "PyTorch" in computer.asked[0]
    assert TIMM in computer.asked[0]
    assert computer.told == []


def test_a_user_who_declines_gets_nothing_installed(computer, requirements):
    computer.answers = [False]
    result = start(computer, requirements).ensureReady()
    assert result.outcome == DECLINED
    assert computer.calls == []
    assert PENDING_KEY not in computer.store.values


def test_only_timm_is_installed_when_torch_works(computer, requirements):
    computer.torchState, computer.answers = GOOD, [True]
    assert start(computer, requirements).ensureReady().ready
    assert computer.calls == [f"pip {TIMM}", "selfTest"]
    assert "PyTorch" not in computer.asked[0]


def test_a_missing_torchvision_goes_through_the_pytorch_extension(computer, requirements):
    computer.torchState, computer.missing, computer.visionMissing, computer.answers = GOOD, [], True, [True]
    assert start(computer, requirements).ensureReady().ready
    assert computer.calls == ["torch >=2.4 >=0.19", "selfTest"]


def test_without_the_extension_there_is_exactly_one_restart_and_no_second_question_after_it(computer, requirements):
    computer.extensionLoaded = computer.extensionInstalled = False
    computer.answers = [True, True]
    assert start(computer, requirements).ensureReady().outcome == RESTARTING
    assert computer.calls == ["extension", "restart"]

    computer.session, computer.extensionLoaded, computer.calls = "second", True, []
    result = start(computer, requirements).resumePending()
    assert result is not None
    assert result.ready
    assert computer.calls == ["torch >=2.4 >=0.19", f"pip {TIMM}", "selfTest"]
    assert len(computer.asked) == 2
    assert PENDING_KEY not in computer.store.values


def test_an_extension_that_is_installed_but_not_loaded_only_needs_the_restart(computer, requirements):
    computer.extensionLoaded, computer.answers = False, [True, True]
    assert start(computer, requirements).ensureReady().outcome == RESTARTING
    assert computer.calls == ["restart"]


def test_a_restart_that_is_put_off_is_remembered(computer, requirements):
    computer.extensionLoaded, computer.answers = False, [True, False]
    installation = start(computer, requirements)
    assert installation.ensureReady().outcome == RESTARTING
    assert "restart" not in computer.calls
    # Switching modules in the same session changes nothing.
    assert installation.resumePending() is None
    assert PENDING_KEY in computer.store.values
    computer.session, computer.extensionLoaded = "second", True
    assert start(computer, requirements).resumePending().ready


def test_it_never_restarts_twice(computer, requirements):
    computer.extensionLoaded, computer.answers = False, [True, True]
    start(computer, requirements).ensureReady()
    computer.session, computer.calls = "second", []
    result = start(computer, requirements).resumePending()
    assert result.outcome == FAILED
    assert "restart" not in computer.calls
    assert "close Slicer" in computer.told[0]
    # And the failure does not repeat at the next start.
    computer.session = "third"
    assert start(computer, requirements).resumePending() is None


def test_an_installation_that_waits_for_more_than_a_day_is_forgotten(computer, requirements):
    computer.extensionLoaded, computer.answers = False, [True, False]
    start(computer, requirements).ensureReady()
    computer.session, computer.now = "second", computer.now + PENDING_SECONDS + 1
    assert start(computer, requirements).resumePending() is None
    assert PENDING_KEY not in computer.store.values


@pytest.mark.parametrize("damaged", ["", "yes", "{}", '{"time": "late", "session": 3}', None])
def test_a_damaged_marker_is_forgotten(computer, requirements, damaged):
    computer.store.setValue(PENDING_KEY, damaged)
    assert start(computer, requirements).resumePending() is None
    assert PENDING_KEY not in computer.store.values


def test_without_a_marker_nothing_happens_when_the_module_opens(computer, requirements):
    assert start(computer, requirements).resumePending() is None
    assert computer.asked == computer.calls == []


def test_a_half_installed_torch_is_removed_before_it_is_installed_again(computer, requirements):
    computer.torchState = TorchState("broken", "its folder lacks the main files")
    computer.answers = [True]
    assert start(computer, requirements).ensureReady().ready
    assert computer.calls == ["remove torch", "torch >=2.4 >=0.19", f"pip {TIMM}", "selfTest"]
    assert "its folder lacks the main files" in computer.asked[0]


def test_a_broken_torch_that_is_in_use_is_replaced_after_the_restart(computer, requirements):
    computer.torchState, computer.removeFails = TorchState("broken", "no zeros"), PermissionError("in use")
    computer.answers = [True, True]
    assert start(computer, requirements).ensureReady().outcome == RESTARTING
    computer.session, computer.removeFails, computer.calls = "second", None, []
    assert start(computer, requirements).resumePending().ready
    assert computer.calls[:2] == ["remove torch", "torch >=2.4 >=0.19"]


def test_a_broken_torch_that_still_cannot_be_removed_gets_advice_with_the_folder(computer, requirements):
    computer.torchState, computer.removeFails = TorchState("broken", "no zeros"), PermissionError("read-only")
    computer.answers = [True, True]
    start(computer, requirements).ensureReady()
    computer.session = "second"
    result = start(computer, requirements).resumePending()
    assert result.outcome == FAILED
    assert "site-packages" in result.message
    assert "read-only" in result.message
    assert computer.told == [result.message]
    assert computer.calls.count("restart") == 1


def test_a_torchvision_beside_a_loaded_torch_needs_no_restart(computer, requirements):
    computer.torchState, computer.missing, computer.visionMissing = GOOD, [], True
    computer.inUse, computer.answers = True, [True]
    assert start(computer, requirements).ensureReady().ready
    assert "restart" not in computer.calls


def test_a_new_torch_in_place_of_an_imported_old_one_needs_the_restart(computer, requirements):
    computer.torchState, computer.inUse = TorchState("old", "1.13 is installed"), True
    computer.answers = [True, True]
    assert start(computer, requirements).ensureReady().outcome == RESTARTING
    assert computer.calls == ["torch >=2.4 >=0.19", f"pip {TIMM}", "restart"]


@pytest.mark.parametrize("how", [True, RuntimeError("no network")])
def test_a_torch_that_does_not_install_ends_with_advice_before_pip(computer, requirements, how):
    computer.torchFails, computer.answers = how, [True]
    result = start(computer, requirements).ensureReady()
    assert result.outcome == FAILED
    assert "internet" in result.message
    assert not any(call.startswith("pip") for call in computer.calls)


def test_an_extension_that_does_not_install_ends_with_advice(computer, requirements):
    computer.extensionLoaded = computer.extensionInstalled = False
    computer.extensionFails, computer.answers = True, [True]
    result = start(computer, requirements).ensureReady()
    assert result.outcome == FAILED
    assert "Extensions Manager" in result.message
    assert "restart" not in computer.calls


def test_a_failing_pip_ends_with_the_names_and_the_way_without_internet(computer, requirements):
    computer.torchState, computer.pipFails, computer.answers = GOOD, OSError("no route to host"), [True]
    result = start(computer, requirements).ensureReady()
    assert result.outcome == FAILED
    assert TIMM in result.message
    assert "--no-index" in result.message


def test_a_failing_self_test_is_told_and_the_module_is_not_ready(computer, requirements):
    computer.failures, computer.answers = ["timm: ImportError: boom"], [True]
    installation = start(computer, requirements)
    result = installation.ensureReady()
    assert result.outcome == FAILED
    assert "timm: ImportError: boom" in result.message
    computer.answers = [False]
    computer.missing = [TIMM]
    assert not installation.ensureReady().ready


def test_a_version_clash_is_repaired_through_the_extension(computer, requirements):
    computer.torchState, computer.missing, computer.answers = GOOD, [], [True]
    computer.clashList = ["torchvision 0.15 needs torch==2.0, but version 2.6 is installed"]
    assert start(computer, requirements).ensureReady().ready
    assert computer.calls[0].startswith("torch ")


def test_a_clash_that_stays_is_told(computer, requirements):
    computer.torchState, computer.missing, computer.answers = GOOD, [], [True]
    computer.clashList = ["timm 1.0 needs numpy>=3, but version 2.0 is installed"]
    result = start(computer, requirements).ensureReady()
    assert result.outcome == FAILED
    assert "needs numpy>=3" in result.message


def test_a_udfa_from_elsewhere_stops_everything_before_asking(computer, requirements):
    computer.shadow = Problem("shadowed", "Another udfa in /x.", "Remove it.")
    result = start(computer, requirements).ensureReady()
    assert result.outcome == FAILED
    assert result.message == "Another udfa in /x. Remove it."
    assert computer.asked == computer.calls == []


def test_a_blocking_problem_stops_before_asking_but_only_when_torch_is_needed(computer, requirements):
    computer.problemList = [Problem("intelMac", "Intel.", "Use arm64.")]
    assert start(computer, requirements).ensureReady().outcome == FAILED
    assert computer.asked == []
    computer.torchState, computer.answers = GOOD, [True]
    assert start(computer, requirements).ensureReady().ready


def test_other_problems_are_part_of_the_question(computer, requirements):
    computer.problemList = [Problem("disk", "1.0 GB are free.", "Free some.", blocking=False)]
    computer.answers = [False]
    start(computer, requirements).ensureReady()
    assert "1.0 GB are free. Free some." in computer.asked[0]


def test_from_a_thread_it_refuses_to_work(computer, requirements):
    installation = start(computer, requirements)
    errors = []

    def attempt():
        try:
            installation.ensureReady()
        except UDFAError as error:
            errors.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "main thread" in errors[0]
    assert computer.calls == computer.asked == []
