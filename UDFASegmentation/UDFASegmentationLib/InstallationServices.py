"""What the installation works with: the services it is given, and what it finds on this computer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from UDFASegmentationLib import EnvironmentCheck, SelfTest
from UDFASegmentationLib.EnvironmentCheck import TORCH_NAMES, Problem, TorchState
from UDFASegmentationLib.Settings import KeyValueStore


class Dialogs(Protocol):
    """What the user is shown."""

    def confirm(self, text: str, title: str, detailedText: str = "") -> bool:
        """Ask; True for OK."""

    def inform(self, text: str, title: str) -> None:
        """Tell."""


class PackageInstaller(Protocol):
    """Installs packages from the Python Package Index. Never called from a thread."""

    def install(self, requirements: Sequence[str]) -> None:
        """Install; any exception means that it failed."""


class TorchInstaller(Protocol):
    """Installs torch with the PyTorch extension."""

    def isAvailable(self) -> bool:
        """Whether the extension is loaded."""

    def isInstalled(self) -> bool:
        """Whether the extension is installed, perhaps not loaded before the next start."""

    def installExtension(self) -> bool:
        """Install the extension from Slicer's server; it is loaded after a restart."""

    def install(self, torchRange: str, torchvisionRange: str) -> bool:
        """Install torch and torchvision; False if it did not happen."""

    def remove(self) -> None:
        """Remove torch and torchvision with what a broken installation left; OSError if files are in use."""


@dataclass(frozen=True)
class Status:
    """What was found on this computer."""

    torch: TorchState
    missing: tuple[str, ...]
    """Requirements other than torch and torchvision that are not satisfied."""
    torchvisionMissing: bool = False
    clashes: tuple[str, ...] = ()
    shadow: Problem | None = None

    @property
    def torchNeeded(self) -> bool:
        """Whether the PyTorch extension has something to do."""
        return self.torch.kind != "good" or self.torchvisionMissing or any("torchvision" in c for c in self.clashes)

    @property
    def torchReplaced(self) -> bool:
        """Whether the PyTorch extension replaces a torch that may be loaded already, so that a restart is needed."""
        return self.torch.kind in ("broken", "old") or bool(self.clashes)

    @property
    def ready(self) -> bool:
        """Whether nothing has to be installed."""
        return not (self.torchNeeded or self.missing or self.clashes or self.shadow)


class Probe:
    """Looks at this computer. Tests give one that finds what they want."""

    def status(self, requirements: Sequence[str]) -> Status:
        """Look at packages; torch is imported if it is there."""
        names = {requirement: EnvironmentCheck.requirementName(requirement) for requirement in requirements}
        missing = EnvironmentCheck.missingRequirements(requirements)
        torch = next((requirement for requirement in requirements if names[requirement] == "torch"), "torch")
        return Status(
            torch=EnvironmentCheck.torchState(torch),
            missing=tuple(requirement for requirement in missing if names[requirement] not in TORCH_NAMES),
            torchvisionMissing=any(names[requirement] == "torchvision" for requirement in missing),
            clashes=tuple(EnvironmentCheck.versionClashes()),
            shadow=EnvironmentCheck.shadowProblem(),
        )

    def problems(self) -> list[Problem]:
        """Return what would get in the way of an installation."""
        return EnvironmentCheck.installationProblems()

    def selfTest(self) -> list[str]:
        """Return what does not work after an installation."""
        return SelfTest.selfTest()

    def torchInUse(self) -> bool:
        """Whether torch was already imported in this session, so that a new one needs a restart."""
        return "torch" in sys.modules


@dataclass(frozen=True)
class Services:
    """What the installation does its work with; `SlicerInstallers.slicerServices` gives Slicer's."""

    dialogs: Dialogs
    packages: PackageInstaller
    torch: TorchInstaller
    store: KeyValueStore
    restart: Callable[[], None]
    """Closes Slicer and starts it again."""
    clock: Callable[[], float] = time.time
    session: str = field(default_factory=lambda: str(os.getpid()))
    """Differs between two starts of Slicer."""
    probe: Probe = field(default_factory=Probe)
