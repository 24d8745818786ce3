"""What must never go unnoticed, tried out: a copy of the tree is broken, and its own tests are run.

A file dropped from CMake's list would not be installed; a renamed widget would keep the panel from opening; a label
without its colour would look like another one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
TESTS = "Testing/Python"
CMAKE_TEST = f"{TESTS}/packaging/test_extension_cmake.py::test_cmake_ships_every_file_of_the_module_folder"
WIDGET_TEST = f"{TESTS}/slicer/widget/test_widget_files.py::test_every_widget_that_the_code_uses_is_in_the_ui_file"
COLOUR_TEST = f"{TESTS}/core/test_labels.py::test_known_labels_are_stored_under_their_names_with_different_colours"
LABEL_TEST = f"{TESTS}/core/test_labels.py::test_every_label_of_the_bundled_models_is_known"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the tests need; each test puts back what it has broken."""
    copy = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("UDFASegmentation", "Testing"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=ignored)
    for file in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / file, copy)
    return copy


def run_tests(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy in a process of their own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "PYTHONPATH"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def test_the_unbroken_copy_passes(tree: Path) -> None:
    done = run_tests(tree, CMAKE_TEST, WIDGET_TEST, COLOUR_TEST, LABEL_TEST)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "test", "named"),
    [
        (
            "UDFASegmentation/CMakeLists.txt",
            "file(GLOB_RECURSE MODULE_PYTHON_RESOURCES",
            "list(REMOVE_ITEM MODULE_PYTHON_SCRIPTS udfa/layers/lgfa.py)\nfile(GLOB_RECURSE MODULE_PYTHON_RESOURCES",
            CMAKE_TEST,
            "udfa/layers/lgfa.py",
        ),
        (
            "UDFASegmentation/Resources/UI/UDFASegmentation.ui",
            'name="segmentButton"',
            'name="startButton"',
            WIDGET_TEST,
            "segmentButton",
        ),
        (
            "UDFASegmentation/udfa/labels.py",
            'Label("liver", "Liver", (221, 130, 101), ',
            'Label("liver", "Liver", ',
            COLOUR_TEST,
            "color",
        ),
        (
            "UDFASegmentation/udfa/labels.py",
            '        Label("liver", "Liver", (221, 130, 101), _sct("10200004", "Liver")),\n',
            "",
            LABEL_TEST,
            "liver",
        ),
    ],
    ids=["file dropped from CMake", "renamed widget", "label without colour", "label not in the table"],
)
def test_a_broken_copy_fails(tree: Path, file: str, old: str, new: str, test: str, named: str) -> None:
    text = (tree / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tree / file).write_text(text.replace(old, new), encoding="utf-8")
    try:
        done = run_tests(tree, test)
    finally:
        (tree / file).write_text(text, encoding="utf-8")
    assert done.returncode == 1, done.stdout
    assert named in done.stdout
