"""What the packaging tests share: the repository's files, and the configured extension."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from extension_build import Extension, configure

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def repository_files() -> list[Path]:
    """All files of the checkout that git tracks or would add, relative to its top folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout
    names = [os.fsdecode(name) for name in listing.split(b"\0") if name]
    return [Path(name) for name in names if (REPOSITORY / name).is_file()]


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Extension:
    """This repository's extension, configured by CMake."""
    return configure(REPOSITORY, tmp_path_factory.mktemp("extension"))
