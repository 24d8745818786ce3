"""Slicer installs what CMake lists: every file of the module folder must be in the list."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from extension_build import Extension, configure, forgotten


@pytest.fixture
def copied_sources(repository: Path, tmp_path: Path) -> Path:
    """The extension's sources, without the large checkpoints, in a scratch folder."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for folder in ("UDFASegmentation", "Testing"):
        shutil.copytree(repository / folder, source / folder, ignore=ignored)
    shutil.copy(repository / "CMakeLists.txt", source)
    return source


def test_cmake_ships_every_file_of_the_module_folder(extension: Extension, repository: Path) -> None:
    assert forgotten(extension.listed, repository / "UDFASegmentation") == []


def test_no_file_is_listed_twice(extension: Extension) -> None:
    listed = extension.listed
    assert len(listed) == len(set(listed))


def test_the_module_file_and_a_nested_core_file_are_scripts(extension: Extension) -> None:
    assert {"UDFASegmentation.py", "udfa/__init__.py", "udfa/networks/udfa.py"} <= set(extension.record["script"])


def test_a_resource_of_a_kind_that_no_pattern_matches_is_reported(copied_sources: Path, tmp_path: Path) -> None:
    module = copied_sources / "UDFASegmentation"
    (module / "Resources" / "colours.xyz").write_text("liver 221 130 101\n")
    extension = configure(copied_sources, tmp_path / "build")
    assert forgotten(extension.listed, module) == ["Resources/colours.xyz"]


def test_a_script_dropped_from_the_list_is_reported(extension: Extension, repository: Path) -> None:
    listed = [name for name in extension.listed if name != "udfa/layers/lgfa.py"]
    assert forgotten(listed, repository / "UDFASegmentation") == ["udfa/layers/lgfa.py"]


def test_a_file_added_after_configuring_is_found_by_the_next_build(copied_sources: Path, tmp_path: Path) -> None:
    extension = configure(copied_sources, tmp_path / "build")
    assert "udfa/layers/added_later.py" not in extension.listed
    (copied_sources / "UDFASegmentation" / "udfa" / "layers" / "added_later.py").write_text("VALUE = 1\n")
    extension.rebuild()
    assert "udfa/layers/added_later.py" in extension.listed


def test_a_list_that_names_a_missing_file_stops_cmake(copied_sources: Path, tmp_path: Path) -> None:
    module = copied_sources / "UDFASegmentation" / "CMakeLists.txt"
    module.write_text(module.read_text().replace("${MODULE_PYTHON_SCRIPTS}", "${MODULE_PYTHON_SCRIPTS} absent.py"))
    with pytest.raises(RuntimeError, match=r"absent\.py"):
        configure(copied_sources, tmp_path / "build")


def test_one_module_with_slicers_generic_tests_is_packaged(extension: Extension, repository: Path) -> None:
    record = extension.record
    assert record["project"] == ["UDFA"]
    assert record["module"] == ["UDFASegmentation"]
    assert record["generic_tests"] == ["TRUE"]
    assert record["packaged"] == [str(repository)]


def test_the_module_file_and_the_installation_test_are_registered_with_ctest(
    extension: Extension, repository: Path
) -> None:
    expected = [
        repository / "UDFASegmentation" / "UDFASegmentation.py",
        repository / "Testing" / "Python" / "UDFAInstalledTest.py",
    ]
    assert extension.record["unittest"] == [str(path) for path in expected]


def test_nothing_outside_the_module_folder_is_installed(extension: Extension) -> None:
    top = {path.name for path in extension.installed.iterdir()}
    assert top == {"UDFASegmentation.py", "UDFASegmentationLib", "SegmentEditorUDFAClick", "udfa", "Resources"}


def test_the_installed_core_imports_by_itself_and_without_torch(extension: Extension) -> None:
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import udfa.config, udfa.labels
        print(udfa.__file__, "torch" in sys.modules)
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(code), str(extension.installed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == [str(extension.installed / "udfa" / "__init__.py"), "False"], done.stderr


def test_the_installation_test_for_slicer_passes_on_the_installed_tree(
    extension: Extension, repository: Path, tmp_path: Path
) -> None:
    """The test file runs in Slicer; here a `slicer` that only knows where the module lies is enough for it."""
    module = extension.installed / "UDFASegmentation.py"
    stand_in = f"""
        from types import SimpleNamespace
        modules = SimpleNamespace(udfasegmentation=SimpleNamespace(path={str(module)!r}))
    """
    (tmp_path / "slicer.py").write_text(textwrap.dedent(stand_in))
    search = [tmp_path, extension.installed, repository / "Testing" / "Python"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, search))}
    command = [sys.executable, "-m", "unittest", "-v", "UDFAInstalledTest"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Ran 3 tests" in done.stderr
