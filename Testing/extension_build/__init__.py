"""Runs the extension's real CMake files with a stand-in for Slicer's, and says what they would install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STAND_IN = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Extension:
    """An extension that CMake has configured."""

    source: Path
    build: Path

    @property
    def installed(self) -> Path:
        """Folder with the files that Slicer's qt-scripted-modules folder would get."""
        return self.build / "qt-scripted-modules"

    @property
    def record(self) -> dict[str, list[str]]:
        """Key to values, in the order in which CMake saw them."""
        found: dict[str, list[str]] = defaultdict(list)
        for line in (self.build / "record.tsv").read_text(encoding="utf-8").splitlines():
            key, value = line.split("\t", 1)
            found[key].append(value)
        return dict(found)

    @property
    def listed(self) -> list[str]:
        """Scripts and resources of the module, relative to its folder."""
        return self.record["script"] + self.record["resource"]

    def rebuild(self) -> None:
        """Build again, as a developer does after adding a file."""
        run_cmake("--build", str(self.build))


def configure(source: Path, build: Path) -> Extension:
    """Configure an extension's source tree.

    Raises:
        RuntimeError: CMake refused it; the message is CMake's.
    """
    run_cmake(
        *("-S", str(STAND_IN), "-B", str(build)),
        f"-DEXTENSION_SOURCE_DIR={source}",
        f"-DRECORD_FILE={build / 'record.tsv'}",
        "-DBUILD_TESTING=ON",
    )
    return Extension(source, build)


def run_cmake(*arguments: str) -> None:
    """Run the cmake of this environment, or else the system's; RuntimeError with its output when it fails."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake = shutil.which("cmake", path=places)
    if cmake is None:
        raise RuntimeError("There is no cmake. It comes with the test extra: pip install -e '.[test]'.")
    done = subprocess.run([cmake, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)


def shippable(folder: Path) -> set[str]:
    """Everything in a module folder but CMake's own file and caches, relative to it."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files if path.name != "CMakeLists.txt"}


def forgotten(listed: Iterable[str], folder: Path) -> list[str]:
    """Files of a module folder that CMake does not list."""
    return sorted(shippable(folder) - set(listed))
