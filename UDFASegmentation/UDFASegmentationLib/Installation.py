"""Gets the module ready to run: says what is missing, asks once, installs, tests, and asks for at most one restart.

Nothing happens on import or when the module opens. `Installation.ensureReady` is called when the user presses a button
that needs the network; when everything is there it returns at once, without pip and without any connection.

    ensureReady -> ask -> PyTorch extension -> (restart) -> torch, torchvision -> timm and the rest -> self-test
                                                  |                                          |
                          `resumePending` goes on here, without asking again                 `-> ready

torch comes before the rest: otherwise pip would fetch a torch that does not fit the graphics card.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from udfa.errors import UDFAError
from UDFASegmentationLib import EnvironmentCheck
from UDFASegmentationLib.EnvironmentCheck import TORCH_NAMES, Problem
from UDFASegmentationLib.InstallationServices import Services, Status
from UDFASegmentationLib.Settings import GROUP

TITLE = "UDFA Segmentation"
PENDING_KEY = f"{GROUP}/InstallationPending"
"""Set while an installation waits for the restart; removed as soon as it goes on."""

PENDING_SECONDS = 24 * 3600.0
"""An installation that waits longer than this is forgotten: the user is asked again."""

READY, DECLINED, RESTARTING, FAILED = "ready", "declined", "restarting", "failed"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How it went."""

    outcome: str
    """ready, declined, restarting or failed."""
    message: str = ""
    """In plain words, empty when ready."""

    @property
    def ready(self) -> bool:
        """Whether the network can be used now."""
        return self.outcome == READY


class _Stopped(Exception):
    """The installation ends here with a result."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message)
        self.result = result


class Installation:
    """Installs what the module needs.

    Args:
        requirementsFile: The module's Resources/requirements.txt.
        services: What it works with.
    """

    def __init__(self, requirementsFile: Path, services: Services) -> None:
        self.requirements = EnvironmentCheck.readRequirements(requirementsFile)
        self._services = services
        self._ready = False
        self._restartUsed = False

    def ensureReady(self) -> Result:
        """Return at once when all is there; otherwise ask, and install. Call it on the main thread.

        Raises:
            UDFAError: Called from another thread.
        """
        _requireMainThread()
        if self._ready:
            return Result(READY)
        status = self._services.probe.status(self.requirements)
        if status.ready:
            self._ready = True
            self._services.store.remove(PENDING_KEY)
            return Result(READY)
        return self._run(status, asked=False)

    def resumePending(self) -> Result | None:
        """Go on with an installation that waited for the restart; None if none does. Call it when the module opens."""
        _requireMainThread()
        if not self._takePending():
            return None
        self._restartUsed = True
        status = self._services.probe.status(self.requirements)
        if status.ready:
            self._ready = True
            return Result(READY)
        return self._run(status, asked=True)

    def _run(self, status: Status, asked: bool) -> Result:
        try:
            if status.shadow is not None:
                raise _Stopped(Result(FAILED, _sentence(status.shadow)))
            problems = self._services.probe.problems()
            blocking = [problem for problem in problems if problem.blocking and status.torchNeeded]
            if blocking:
                raise _Stopped(Result(FAILED, "\n\n".join(map(_sentence, blocking))))
            if not asked and not self._askPermission(status, problems):
                raise _Stopped(Result(DECLINED, "Nothing was installed. UDFA Segmentation cannot run without it."))
            torchInUse = self._services.probe.torchInUse()
            if status.torchNeeded:
                self._installTorch(status)
            self._installRest()
            if torchInUse and status.torchNeeded and status.torchReplaced:
                self._restart("The new PyTorch can be used after Slicer has restarted.")
            self._checkResult()
        except _Stopped as stopped:
            if stopped.result.outcome == FAILED:
                _logger.error("Installation: %s", stopped.result.message)
                self._services.dialogs.inform(stopped.result.message, f"{TITLE} - Installation")
            return stopped.result
        self._ready = True
        return Result(READY)

    def _askPermission(self, status: Status, problems: Sequence[Problem]) -> bool:
        steps = []
        if status.torchNeeded:
            reason = f" ({status.torch.detail})" if status.torch.kind in ("broken", "old") else ""
            verb = "install" if status.torch.kind == "absent" else "repair"
            steps.append(f"- {verb} PyTorch{reason}: 0.2 to 3 GB to download")
            if not self._services.torch.isInstalled():
                steps.append("- install Slicer's PyTorch extension first; Slicer restarts once for it")
        steps += [f"- install {requirement}" for requirement in status.missing]
        notes = [f"\n{_sentence(problem)}" for problem in problems if not problem.blocking]
        text = (
            "UDFA Segmentation needs Python packages that this Slicer does not have yet:\n\n"
            + "\n".join(steps)
            + "\n\nThey are downloaded from the internet into Slicer's own Python. No image leaves this computer. "
            "This can take several minutes, in which Slicer does not respond.\n" + "\n".join(notes) + "\nInstall now?"
        )
        return self._services.dialogs.confirm(text, f"{TITLE} - Installation", "\n".join(status.clashes))

    def _installTorch(self, status: Status) -> None:
        installer = self._services.torch
        if not installer.isAvailable():
            if not installer.isInstalled() and not _attempt(installer.installExtension):
                raise _Stopped(
                    Result(
                        FAILED,
                        "Slicer's PyTorch extension could not be installed. Check the internet connection, or install "
                        "'PyTorch' by hand: menu View, Extensions Manager, then restart Slicer. Without internet: "
                        "download the extension elsewhere and use 'Install from file' there.",
                    )
                )
            self._restart("The PyTorch extension is installed. Slicer has to restart to use it.")
        if status.torch.kind == "broken":
            self._removeBroken()
        ranges = [EnvironmentCheck.specifierOf(self.requirements, name) for name in TORCH_NAMES]
        if not _attempt(lambda: installer.install(ranges[0], ranges[1])):
            raise _Stopped(
                Result(
                    FAILED,
                    "PyTorch could not be installed. Check the internet connection and the free disk space, then try "
                    "again; the module 'PyTorch Utils' offers other versions. Slicer's Python console shows the "
                    "details.",
                )
            )

    def _removeBroken(self) -> None:
        try:
            self._services.torch.remove()
        except OSError as error:
            # Loaded libraries cannot be deleted on Windows, also when their import failed.
            if not self._restartUsed:
                self._restart("The broken PyTorch is in use. It can be replaced after Slicer has restarted.")
            raise _Stopped(
                Result(
                    FAILED,
                    f"The broken PyTorch cannot be removed ({error}). Close other programs that use Slicer's Python, "
                    f"delete the folders whose names start with 'torch' in {EnvironmentCheck.sitePackages()}, and try "
                    f"again.",
                )
            ) from error

    def _installRest(self) -> None:
        missing = self._services.probe.status(self.requirements).missing
        if missing and not _attempt(lambda: self._services.packages.install(missing) or True):
            raise _Stopped(
                Result(
                    FAILED,
                    f"These packages could not be installed: {', '.join(missing)}. Check the internet connection; "
                    f"Slicer's Python console shows what pip said. Without internet: copy the wheels to this computer "
                    f"and install them with slicer.util.pip_install('--no-index --find-links FOLDER "
                    f"{' '.join(missing)}').",
                )
            )

    def _checkResult(self) -> None:
        status = self._services.probe.status(self.requirements)
        failures = [f"PyTorch: {status.torch.detail or 'not installed'}"] if status.torch.kind != "good" else []
        failures += [f"missing: {requirement}" for requirement in status.missing]
        failures += ["missing: torchvision"] if status.torchvisionMissing else []
        failures = failures + list(status.clashes) or self._services.probe.selfTest()
        if failures:
            listing = "\n".join(f"- {failure}" for failure in failures)
            raise _Stopped(
                Result(
                    FAILED,
                    f"The installation ended, but the test after it failed:\n\n{listing}\n\nRestart Slicer and try "
                    f"again. If it stays: copy the report of 'Check environment' into a question on the Slicer forum.",
                )
            )

    def _restart(self, reason: str) -> None:
        """Ask for the one restart and stop here; the installation goes on after it."""
        if self._restartUsed:
            raise _Stopped(
                Result(FAILED, f"{reason} It was restarted once already: close Slicer, start it again and try again.")
            )
        pending = {"time": self._services.clock(), "session": self._services.session}
        self._services.store.setValue(PENDING_KEY, json.dumps(pending))
        question = (
            f"{reason}\n\nSave your work first. The installation goes on when you open UDFA Segmentation after the "
            f"restart.\n\nRestart now?"
        )
        if self._services.dialogs.confirm(question, f"{TITLE} - Restart"):
            self._services.restart()
        raise _Stopped(Result(RESTARTING, f"{reason} The installation goes on after the restart."))

    def _takePending(self) -> bool:
        """Whether an installation waits and Slicer was restarted since. It is forgotten here: a failure never repeats.

        Without a restart the installation keeps waiting, so that switching modules does not disturb it.
        """
        store = self._services.store
        if not store.contains(PENDING_KEY):
            return False
        try:
            pending = json.loads(str(store.value(PENDING_KEY)))
            age, session = self._services.clock() - float(pending["time"]), str(pending["session"])
        except (ValueError, TypeError, KeyError):
            age, session = PENDING_SECONDS, ""
        if session == self._services.session:
            return False
        store.remove(PENDING_KEY)
        return 0 <= age < PENDING_SECONDS


def _requireMainThread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise UDFAError("Packages can only be installed from the main thread: pip changes what is imported.")


def _attempt(step: Callable[[], bool]) -> bool:
    """Run a step of the installation; any error means that it failed, and is logged."""
    try:
        return bool(step())
    except Exception:  # Installers fail in any way they like; the user gets advice instead of a traceback.
        _logger.exception("A step of the installation failed.")
        return False


def _sentence(problem: Problem) -> str:
    return f"{problem.text} {problem.advice}"
