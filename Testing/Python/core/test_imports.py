"""Arrows point inwards: the core knows neither Slicer nor training, and importing it costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = ROOT / "UDFASegmentation" / "udfa"
SLICER_LAYER = ROOT / "UDFASegmentation" / "UDFASegmentationLib"
TRAINING = ROOT / "training" / "udfa_training"

SLICER_PACKAGES = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "MRMLCorePython", "SegmentStatistics", "sitkUtils"}


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imported_packages(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level packages that a file imports anywhere, also within functions, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((str(a.value).split(".")[0], node.lineno) for a in node.args if isinstance(a, ast.Constant))


def forbidden_imports(folder: Path, forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {package}"
        for path in python_files(folder)
        for package, line in imported_packages(path)
        if package in forbidden
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        (CORE, SLICER_PACKAGES | {"UDFASegmentation", "UDFASegmentationLib", "udfa_training"}),
        (SLICER_LAYER, {"udfa_training"}),
        (TRAINING, SLICER_PACKAGES | {"UDFASegmentation", "UDFASegmentationLib"}),
    ],
    ids=["core", "slicer", "training"],
)
def test_no_layer_imports_an_outer_one(folder: Path, forbidden: set[str]) -> None:
    assert len(python_files(folder)) > 3
    assert forbidden_imports(folder, forbidden) == []


def test_the_import_check_sees_imports_in_functions_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "def f():\n    import slicer.util\n    from qt import QWidget\n    importlib.import_module('vtk')\n"
    )
    assert sorted(imported_packages(path)) == [("qt", 3), ("slicer", 2), ("vtk", 4)]


@pytest.mark.parametrize(
    "modules", ["udfa", "udfa, udfa.config, udfa.labels, udfa.errors, udfa.checkpoint, udfa.geometry, udfa.grid"]
)
def test_importing_the_core_loads_neither_torch_nor_simpleitk(modules: str) -> None:
    script = f"import sys, {modules}\nprint(sorted({{'torch', 'SimpleITK', 'timm', 'safetensors'}} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=CORE.parent, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
