"""The installation's services in a running Slicer: its dialogs, its pip, the PyTorch extension.

Differences between Slicer 5.8, 5.10 and 5.12, and between versions of the PyTorch extension, are dealt with here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from UDFASegmentationLib.EnvironmentCheck import parsedRequirement, sitePackages
from UDFASegmentationLib.Installation import TITLE, Installation
from UDFASegmentationLib.InstallationServices import Services
from UDFASegmentationLib.Settings import applicationSettings

EXTENSION = "PyTorch"
"""Name of the extension that installs torch."""

KEPT_PACKAGES = ("numpy", "SimpleITK", "torch", "torchvision")
"""Packages that pip must not replace while it installs others: Slicer's own, and torch with its graphics support."""

_TORCH_ENTRIES = re.compile(r"^(torch|torchvision|torchgen|functorch)(-[^-]+\.dist-info|\.libs)?$")
"""What torch and torchvision leave in site-packages; torchaudio and others are not theirs."""


class SlicerDialogs:
    """Message boxes of Slicer. In testing mode nothing is confirmed, so that a test never changes the environment."""

    def confirm(self, text: str, title: str, detailedText: str = "") -> bool:
        """Ask; True for OK."""
        import slicer.util

        # Slicer's own function answers OK in testing mode.
        if slicer.app.testingEnabled():
            return False
        details = {"detailedText": detailedText} if detailedText else {}
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=title, **details))

    def inform(self, text: str, title: str) -> None:
        """Tell."""
        import slicer.util

        slicer.util.warningDisplay(text, windowTitle=title)


class SlicerPackages:
    """Installs with `slicer.packaging` (Slicer 5.12), else with `slicer.util.pip_install`."""

    def install(self, requirements: Sequence[str]) -> None:
        """Install requirements, and keep the versions of packages that Slicer itself needs."""
        with tempfile.TemporaryDirectory(prefix="udfa-pip-") as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("".join(f"{line}\n" for line in keptVersions()), encoding="utf-8")
            ensure = self._ensureFunction()
            if ensure is not None:
                # Slicer's function works on parsed requirements; it cannot take them as text.
                ensure(
                    [parsedRequirement(requirement) for requirement in requirements],
                    constraints=str(constraints),
                    prompt_install=False,
                    prompt_restart=False,
                    requester=TITLE,
                )
                return
            import slicer.util

            slicer.util.pip_install(["--constraint", str(constraints), *requirements])

    @staticmethod
    def _ensureFunction() -> Callable[..., Any] | None:
        try:
            packaging = importlib.import_module("slicer.packaging")
        except ImportError:
            return None
        return getattr(packaging, "pip_ensure", None)


def keptVersions() -> list[str]:
    """Return constraints that hold KEPT_PACKAGES at the versions that are installed."""
    lines = []
    for name in KEPT_PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version:
            lines.append(f"{name}=={version}")
    return lines


class PyTorchExtension:
    """Installs torch through PyTorchUtils, whatever its version calls its parameters.

    Args:
        folder: site-packages; another one in tests.
        modules: sys.modules; another one in tests.
    """

    def __init__(self, folder: Path | None = None, modules: MutableMapping[str, Any] | None = None) -> None:
        self._folder = folder or sitePackages()
        self._modules = sys.modules if modules is None else modules

    def isAvailable(self) -> bool:
        """Whether the extension is loaded."""
        return self._module() is not None

    def isInstalled(self) -> bool:
        """Whether the extension is installed, perhaps not loaded before the next start."""
        manager = self._manager()
        return self.isAvailable() or (manager is not None and bool(manager.isExtensionInstalled(EXTENSION)))

    def installExtension(self) -> bool:
        """Install the extension from Slicer's server without further questions; the user was asked before."""
        manager = self._manager()
        if manager is None:
            return False
        interactive = manager.interactive
        manager.interactive = False
        try:
            # The second argument keeps Slicer from restarting at once: the user decides when.
            return bool(manager.installExtensionFromServer(EXTENSION, False))
        finally:
            manager.interactive = interactive

    def install(self, torchRange: str, torchvisionRange: str) -> bool:
        """Install torch and torchvision in the given version ranges, such as ">=2.4"."""
        module = self._module()
        if module is None:
            return False
        logic = module.PyTorchUtilsLogic()
        return logic.installTorch(**installArguments(logic.installTorch, torchRange, torchvisionRange)) is not None

    def remove(self) -> None:
        """Delete torch and torchvision from site-packages.

        pip cannot do it: it refuses packages whose file list is missing, and it takes a half-installed torch for
        satisfied.
        """
        for entry in torchEntries(self._folder):
            shutil.rmtree(entry)
        for name in [name for name in self._modules if name.split(".")[0] in ("torch", "torchvision", "torchgen")]:
            del self._modules[name]
        importlib.invalidate_caches()

    @staticmethod
    def _module() -> Any | None:
        try:
            return importlib.import_module("PyTorchUtils")
        except ImportError:
            return None

    @staticmethod
    def _manager() -> Any | None:
        """Slicer's extensions manager; a Slicer may be built without it."""
        import slicer

        model = getattr(slicer.app, "extensionsManagerModel", None)
        return None if model is None else model()


def torchEntries(folder: Path) -> list[Path]:
    """Return the folders of torch and torchvision in site-packages, broken or not."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and _TORCH_ENTRIES.match(entry.name))


def installArguments(installTorch: Callable[..., Any], torchRange: str, torchvisionRange: str) -> dict[str, Any]:
    """Return the arguments for a PyTorchUtils version's `installTorch`, by the names that it knows.

    Versions differ: `confirm` became `askConfirmation`, the version requirements were added one by one, and
    `torchvisionVersionRequirement` was also written with a capital V. The user was asked before, so the extension
    need not ask again.
    """
    values: dict[str, Any] = {
        "confirm": False,
        "askconfirmation": False,
        "torchversionrequirement": torchRange,
        "torchvisionversionrequirement": torchvisionRange,
    }
    names = inspect.signature(installTorch).parameters
    return {name: values[name.lower()] for name in names if name.lower() in values}


def slicerServices() -> Services:
    """Return the services of the running Slicer."""
    import slicer.util

    return Services(
        dialogs=SlicerDialogs(),
        packages=SlicerPackages(),
        torch=PyTorchExtension(),
        store=applicationSettings().store,
        restart=slicer.util.restart,
    )


def slicerInstallation(requirementsFile: Path) -> Installation:
    """Return the installation for the running Slicer.

    Args:
        requirementsFile: The module's Resources/requirements.txt.
    """
    return Installation(requirementsFile, slicerServices())
