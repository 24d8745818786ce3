"""What `udfa doctor` looks at: Python, packages, memory, disk, driver and model folders of this machine."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import udfa
from udfa.models import model_folders

DRIVER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Environment:
    """Everything that the checks may ask; a test replaces single fields."""

    platform: str
    """As sys.platform."""
    system: str
    """Operating system and architecture, for people."""
    python_version: tuple[int, ...]
    executable: str
    packages_folder: Path
    """Where pip installs to."""
    working_folder: Path
    requirements: Mapping[str, str]
    """Package to lowest version."""
    import_module: Callable[[str], Any]
    version_of: Callable[[str], Optional[str]]
    """Version that pip has on record, or None."""
    requirements_of: Callable[[str], list[str]]
    """What an installed package requires; empty when it is not installed."""
    package_copies: Callable[[], list[Path]]
    """All folders that `import udfa` could find, in search order."""
    memory_bytes: Callable[[], Optional[tuple[int, Optional[int]]]]
    """Total and available memory, or None where it cannot be told."""
    free_bytes: Callable[[Path], int]
    nvidia_driver: Callable[[], Optional[str]]
    """Version of the NVIDIA driver, or None."""
    model_folders: tuple[Path, ...]
    """The user's folders of checkpoints."""
    bundled_models: Optional[Path] = None
    """Folder of the bundled checkpoints; None takes the one of this package."""
    expected_package: Optional[Path] = None
    """The udfa folder that should be running, where the caller knows it: the Slicer module does, and only that."""

    @property
    def in_slicer(self) -> bool:
        """Whether the Slicer module asks."""
        return self.expected_package is not None


def real_environment(expected_package: Optional[Path] = None) -> Environment:
    """Return the environment of this process."""
    return Environment(
        platform=sys.platform,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python_version=tuple(sys.version_info[:3]),
        executable=sys.executable,
        packages_folder=Path(sysconfig.get_paths()["purelib"]),
        working_folder=Path.cwd(),
        requirements=read_requirements(),
        import_module=importlib.import_module,
        version_of=_version_of,
        requirements_of=_requirements_of,
        package_copies=_package_copies,
        memory_bytes=_memory_bytes,
        free_bytes=lambda folder: shutil.disk_usage(folder).free,
        nvidia_driver=_nvidia_driver,
        model_folders=tuple(model_folders()[1:]),
        expected_package=expected_package,
    )


def requirements_file() -> Path:
    """Return the list of run-time requirements that is installed with the Slicer module."""
    return Path(udfa.__file__).resolve().parent.parent / "Resources" / "requirements.txt"


def read_requirements() -> dict[str, str]:
    """Return package to lowest version: from the module's list, or from pip's record where udfa came by pip."""
    path = requirements_file()
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else _requirements_of("udfa")
    return lower_bounds(lines)


def lower_bounds(lines: Iterable[str]) -> dict[str, str]:
    """Read requirement lines such as "numpy>=1.26"; comments and optional extras are passed over."""
    bounds = {}
    for line in lines:
        requirement = line.split("#")[0].strip()
        match = re.match(r"([A-Za-z0-9._-]+)\s*\(?\s*>=\s*([\d.]+)", requirement)
        if match is not None and "extra ==" not in requirement:
            bounds[match.group(1)] = match.group(2)
    return bounds


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "2.4.1+cu121" -> (2, 4, 1), without trailing zeros."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _version_of(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements_of(name: str) -> list[str]:
    try:
        return list(importlib.metadata.requires(name) or [])
    except importlib.metadata.PackageNotFoundError:
        return []


def _package_copies() -> list[Path]:
    folders = dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path)
    return [folder / "udfa" for folder in folders if (folder / "udfa" / "__init__.py").is_file()]


def _nvidia_driver() -> Optional[str]:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = output.strip().splitlines()
    return lines[0].strip() if lines else None


def _memory_bytes() -> Optional[tuple[int, Optional[int]]]:
    if sys.platform == "win32":
        return _windows_memory()
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    return total, _linux_available()


def _linux_available() -> Optional[int]:
    """Memory that the kernel can give to a new program; None elsewhere."""
    path = Path("/proc/meminfo")
    match = re.search(r"MemAvailable:\s*(\d+) kB", path.read_text()) if path.is_file() else None
    return int(match.group(1)) * 1024 if match else None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        *((f"other_{i}", ctypes.c_uint64) for i in range(5)),
    )


def _windows_memory() -> Optional[tuple[int, Optional[int]]]:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    library: Any = getattr(ctypes, "windll", None)
    if library is None or not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.total), int(status.available)
