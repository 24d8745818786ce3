"""What is installed, and what would keep it from working. Looks only: nothing is installed or changed here.

Everything is passed in where it matters (versions, importer, platform, disk), so that each finding can be tested
without the computer that shows it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TORCH_NAMES = ("torch", "torchvision")
"""Packages that only the PyTorch extension installs: it chooses the build for the graphics card."""

WATCHED_PACKAGES = ("torch", "torchvision", "timm", "safetensors")
"""Packages whose own requirements are checked against each other."""

DEEPEST_WHEEL_FOLDER = 162
"""Characters below site-packages of the deepest folder in torch 2.13's wheel (nested licence texts)."""

WINDOWS_FOLDER_LIMIT = 247
"""Longest name of a folder that Windows makes; PythonSlicer.exe does not take part in Windows' long paths."""

CPU_GIGABYTES = 3.0
"""Free disk that torch for the CPU and the rest need while they are unpacked."""
CUDA_GIGABYTES = 10.0
"""The same with CUDA libraries."""

VersionLookup = Callable[[str], str]
Importer = Callable[[str], Any]


@dataclass(frozen=True)
class Problem:
    """Something that stands in the way, in plain words."""

    key: str
    """Stable name, such as "longPath"."""
    text: str
    """What was found."""
    advice: str
    """What to do."""
    blocking: bool = True
    """Whether going on makes no sense; otherwise the user may decide to."""


@dataclass(frozen=True)
class TorchState:
    """Whether torch can be used."""

    kind: str
    """absent, broken, old or good."""
    detail: str = ""
    """What is wrong, or the version when nothing is."""


def _packaging(module: str) -> Any:
    """Return a module of `packaging`: the installed one, else the copy inside pip, which Slicer always has."""
    try:
        return importlib.import_module(f"packaging.{module}")
    except ImportError:
        return importlib.import_module(f"pip._vendor.packaging.{module}")


def parsedRequirement(requirement: str) -> Any:
    """Return a requirement such as "timm>=1.0.9" as `packaging.requirements.Requirement`."""
    return _packaging("requirements").Requirement(requirement)


def readRequirements(path: Path) -> list[str]:
    """Return the requirement lines of a requirements.txt without comments, options and empty lines."""
    lines = (line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def requirementName(requirement: str) -> str:
    """Return the package name of a requirement, in lower case with dashes."""
    name: str = parsedRequirement(requirement).name
    return name.lower().replace("_", "-")


def specifierOf(requirements: Iterable[str], name: str) -> str:
    """Return the version range that the requirements give for a package, such as ">=2.4"; empty if none."""
    for requirement in requirements:
        if requirementName(requirement) == name:
            return str(parsedRequirement(requirement).specifier)
    return ""


def isSatisfied(requirement: str, version: VersionLookup = importlib.metadata.version) -> bool:
    """Whether the package of a requirement is installed in a fitting version; markers for other systems pass."""
    parsed = parsedRequirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    try:
        installed = version(parsed.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    # A half-removed package leaves metadata without a version.
    return bool(installed) and parsed.specifier.contains(installed, prereleases=True)


def missingRequirements(requirements: Iterable[str], version: VersionLookup = importlib.metadata.version) -> list[str]:
    """Return the requirements that are not satisfied. Reads metadata only: no import, no pip, no network."""
    return [requirement for requirement in requirements if not isSatisfied(requirement, version)]


def torchState(
    requirement: str = "torch",
    version: VersionLookup = importlib.metadata.version,
    importer: Importer = importlib.import_module,
    findSpec: Callable[[str], Any] = importlib.util.find_spec,
) -> TorchState:
    """Look at torch as far as needed to know whether it works.

    A torch that was unpacked only partly is recognised before it is imported: on Windows an imported library cannot
    be removed until Slicer restarts. Signs are a folder without `__init__.py` (then `torch.__file__` is None), missing
    metadata beside a folder (then PyTorchUtils.torchInstalled raises TypeError), and a tensor that cannot be made.
    """
    try:
        installed: str | None = version("torch")
    except importlib.metadata.PackageNotFoundError:
        installed = None
    try:
        spec = findSpec("torch")
    except (ImportError, ValueError):
        return TorchState("broken", "it was imported only partly")
    if spec is None:
        broken = installed is not None
        return TorchState("broken", "it is registered, but its files are gone") if broken else TorchState("absent")
    if not getattr(spec, "origin", None):
        return TorchState("broken", "its folder lacks the main files: an installation was cut short")
    if not installed:
        return TorchState("broken", "its files are there, but its registration is missing")
    if not isSatisfied(requirement, version):
        return TorchState("old", f"version {installed} is installed, but {requirement} is needed")
    try:
        module = importer("torch")
        if getattr(module, "__file__", None) is None:
            return TorchState("broken", "its folder lacks the main files: an installation was cut short")
        module.zeros(1)
    except Exception as error:  # A damaged library fails in any way it likes.
        return TorchState("broken", f"it does not work: {type(error).__name__}: {error}")
    return TorchState("good", installed)


def versionClashes(
    packages: Sequence[str] = WATCHED_PACKAGES,
    version: VersionLookup = importlib.metadata.version,
    requires: Callable[[str], list[str] | None] = importlib.metadata.requires,
) -> list[str]:
    """Return sentences about installed packages that do not fit each other, such as torchvision and torch.

    Only requirements on other watched packages and on numpy are looked at: the rest belongs to other extensions.
    """
    watched = {*packages, "numpy"}
    clashes = []
    for package in packages:
        try:
            own = version(package)
            wanted = requires(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in wanted:
            parsed = parsedRequirement(line)
            extra = parsed.marker is not None and not parsed.marker.evaluate({"extra": ""})
            if extra or parsed.name.lower() not in watched or isSatisfied(line, version):
                continue
            clashes.append(f"{package} {own} needs {parsed.name}{parsed.specifier}, but {_found(parsed.name, version)}")
    return clashes


def _found(package: str, version: VersionLookup) -> str:
    try:
        return f"version {version(package)} is installed"
    except importlib.metadata.PackageNotFoundError:
        return "it is not installed"


def bundledCore() -> Path:
    """Return the folder of the `udfa` package that came with this module."""
    return Path(__file__).resolve().parent.parent / "udfa"


def shadowProblem(
    bundled: Path | None = None, findSpec: Callable[[str], Any] = importlib.util.find_spec
) -> Problem | None:
    """Return a problem when Python takes another `udfa` package than the one that came with this module."""
    bundled = bundled or bundledCore()
    spec = findSpec("udfa")
    origin = getattr(spec, "origin", None)
    if origin is None or Path(origin).resolve().parent == bundled.resolve():
        return None
    return Problem(
        "shadowed",
        f"Python finds another 'udfa' package in {Path(origin).parent} before the one that came with this module.",
        "Remove it with slicer.util.pip_uninstall('udfa') in Slicer's Python console and restart Slicer.",
    )


def sitePackages() -> Path:
    """Return the folder into which pip installs."""
    return Path(sysconfig.get_paths()["purelib"])


def pathProblem(folder: Path | None = None, system: str = sys.platform) -> Problem | None:
    """Return a problem when Windows' limit of 260 characters would cut an installation of torch short."""
    length = len(str(folder or sitePackages()))
    if system != "win32" or length + 1 + DEEPEST_WHEEL_FOLDER <= WINDOWS_FOLDER_LIMIT:
        return None
    longest = WINDOWS_FOLDER_LIMIT - DEEPEST_WHEEL_FOLDER - 1
    return Problem(
        "longPath",
        f"The folder of Slicer's Python packages has a long name: {length} characters, while some versions of torch "
        f"only unpack below {longest + 1}. Windows may stop the installation half way.",
        "If it fails: install Slicer in a short folder such as C:\\Slicer. Windows' LongPathsEnabled does not help.",
        blocking=False,
    )


def diskProblem(
    folder: Path | None = None,
    cuda: bool | None = None,
    freeBytes: Callable[[Path], int] | None = None,
) -> Problem | None:
    """Return a problem when the disk is too full for torch."""
    folder = folder or sitePackages()
    needed = CUDA_GIGABYTES if (hasNvidiaDriver() if cuda is None else cuda) else CPU_GIGABYTES
    free = (freeBytes or _freeBytes)(folder) / 1e9
    if free >= needed:
        return None
    return Problem(
        "disk",
        f"{free:.1f} GB are free on the disk of {folder}, but installing needs about {needed:.0f} GB.",
        "Free some space, then install again.",
        blocking=False,
    )


def _freeBytes(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def hasNvidiaDriver() -> bool:
    """Whether NVIDIA's tools are there, so that the large CUDA build of torch will be chosen."""
    return shutil.which("nvidia-smi") is not None


def architectureProblem(system: str = sys.platform, machine: str | None = None) -> Problem | None:
    """Return a problem on Macs where Slicer runs as an Intel program: there is no recent torch for it."""
    if system != "darwin" or (machine or platform.machine()) != "x86_64":
        return None
    return Problem(
        "intelMac",
        "This Slicer is an Intel (x86_64) program on macOS. PyTorch has had no versions for it since 2.2.",
        "On an Apple-silicon Mac, install the arm64 build of Slicer. On an Intel Mac, a recent PyTorch does not exist.",
    )


def installationProblems() -> list[Problem]:
    """Return what would get in the way of an installation on this computer, worst first."""
    found = [architectureProblem(), pathProblem(), diskProblem()]
    return [problem for problem in found if problem is not None]
