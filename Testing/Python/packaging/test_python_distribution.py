"""One pyproject.toml describes the two Python packages: what the wheel holds, and what it asks for."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

PACKAGES = {"udfa": "UDFASegmentation/udfa", "udfa_training": "training/udfa_training"}
MODELS = "UDFASegmentation/Resources/models"
MODELS_IN_WHEEL = "udfa/bundled_models"


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that pip builds from a copy of the sources, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in (*PACKAGES.values(), MODELS):
        shutil.copytree(repository / path, source / path, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    done = subprocess.run([*command, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(folder.glob("udfa-*.whl")))


def python_files(repository: Path) -> set[str]:
    """Python files of both packages, as paths inside the wheel."""
    return {
        (Path(package) / path.relative_to(repository / folder)).as_posix()
        for package, folder in PACKAGES.items()
        for path in (repository / folder).rglob("*.py")
    }


def test_the_wheel_holds_every_python_file_and_every_bundled_model_and_nothing_else(
    wheel: zipfile.ZipFile, repository: Path
) -> None:
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    models = {f"{MODELS_IN_WHEEL}/{path.name}" for path in (repository / MODELS).iterdir()}
    assert in_wheel == python_files(repository) | models


def test_the_bundled_models_are_found_in_an_installed_wheel(
    wheel: zipfile.ZipFile, repository: Path, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from udfa.models import *; print(check_pins(bundled_folder()))"
    done = subprocess.run([sys.executable, "-I", "-c", code, tmp_path], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_package_list_names_every_folder_with_python_files(project: dict[str, Any], repository: Path) -> None:
    folders = {str(Path(name).parent).replace("/", ".") for name in python_files(repository)}
    assert set(project["tool"]["setuptools"]["packages"]) == folders | {MODELS_IN_WHEEL.replace("/", ".")}


def test_every_folder_of_the_packages_has_an_init_file(repository: Path) -> None:
    files = python_files(repository)
    assert {f"{Path(name).parent.as_posix()}/__init__.py" for name in files} <= files


def dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(next(path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))).decode()


def test_the_wheel_has_the_version_of_the_package_and_its_licence(wheel: zipfile.ZipFile) -> None:
    import udfa

    metadata = dist_info(wheel, "METADATA")
    assert f"\nVersion: {udfa.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "Apache License" in dist_info(wheel, "licenses/LICENSE")


def test_the_console_scripts_start(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    scripts = dict(re.findall(r"^(\S+) = (\S+)$", dist_info(wheel, "entry_points.txt"), re.MULTILINE))
    assert sorted(scripts) == ["udfa", "udfa-train"]
    for name, target in scripts.items():
        module, function = target.split(":")
        code = (
            f"import sys; sys.path.insert(0, sys.argv[1]); import {module}; sys.exit({module}.{function}(['--help']))"
        )
        done = subprocess.run([sys.executable, "-I", "-c", code, tmp_path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: {name} ")


def requirements(lines: list[str]) -> dict[str, str]:
    """Distribution name to version specifier."""
    matches = (re.match(r"([A-Za-z0-9_.-]+)\s*([^;#]*)", line) for line in lines)
    return {match[1].lower(): match[2].strip() for match in matches if match}


def test_slicer_is_asked_for_the_same_packages_as_pip_with_lower_bounds_only(
    project: dict[str, Any], repository: Path
) -> None:
    text = (repository / "UDFASegmentation" / "Resources" / "requirements.txt").read_text()
    in_slicer = requirements([line for line in text.splitlines() if line and not line.startswith("#")])
    assert in_slicer == requirements(project["project"]["dependencies"])
    assert all(re.fullmatch(r">=[\d.]+", version) for version in in_slicer.values())


def test_the_supported_python_is_the_same_for_pip_and_ruff(project: dict[str, Any]) -> None:
    assert project["project"]["requires-python"] == ">=3.9"
    assert project["tool"]["ruff"]["target-version"] == "py39"


DISTRIBUTIONS = {"yaml": "pyyaml"}
"""Modules whose distribution has another name."""


def imported(folder: Path) -> set[str]:
    """Distributions of the third-party modules that the Python files under a folder import, anywhere in them."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").split(".")[0])
    third_party = names - set(sys.stdlib_module_names) - set(PACKAGES)
    return {DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in third_party}


def declared(project: dict[str, Any], *extras: str) -> set[str]:
    """Distributions that an installation with these extras asks for."""
    lines = list(project["project"]["dependencies"])
    for extra in extras:
        lines += project["project"]["optional-dependencies"][extra]
    return {name.replace("_", "-") for name in requirements(lines)}


def test_every_distribution_that_the_core_imports_is_declared(project: dict[str, Any], repository: Path) -> None:
    assert imported(repository / "UDFASegmentation" / "udfa") <= declared(project, "report")


def test_every_distribution_that_the_training_imports_is_declared(project: dict[str, Any], repository: Path) -> None:
    assert imported(repository / "training") <= declared(project, "training")


def test_the_test_extra_includes_the_others(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    assert extras["test"][0] == "udfa[training,demo]"
    assert declared(project, "report") <= declared(project, "training") & declared(project, "demo")
