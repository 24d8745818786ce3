"""Slicer 5.8 runs Python 3.9: everything that ships must be valid there, and do without what came later."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from udfa.config import ModelConfig

VERSION = (3, 9)
WRAPPERS = ("parameterNodeWrapper", "parameterPack")


def run_time_unions(source: str) -> list[int]:
    """Lines on which `X | Y` of types is computed when the code runs: a TypeError before Python 3.10.

    Annotations are left out when the file postpones them with `from __future__ import annotations`.
    """
    tree = ast.parse(source)
    postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    skipped = {id(part) for node in _annotations(tree) for part in ast.walk(node)} if postponed else set()
    checked = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass")
        for part in ast.walk(node.args[1])
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in skipped
        if id(node) in checked or _is_type(node.left) or _is_type(node.right)
    ]


def _annotations(tree: ast.AST) -> list[ast.expr]:
    found = (getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns"))
    return [node for node in found if node is not None]


def _is_type(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        return _is_type(node.value)
    if isinstance(node, ast.Constant):
        return node.value is None
    return isinstance(node, ast.Name) and isinstance(getattr(builtins, node.id, None), type)


def shipped_files(repository: Path) -> list[Path]:
    return sorted((repository / "UDFASegmentation").rglob("*.py"))


def vermin(*paths: Path) -> subprocess.CompletedProcess[str]:
    """Ask vermin whether files need anything newer than Python 3.9."""
    program = shutil.which("vermin", path=str(Path(sys.executable).parent)) or shutil.which("vermin")
    assert program, "There is no vermin. It comes with the test extra: pip install -e '.[test]'."
    command = [program, "-t=3.9-", "--no-tips", "--violations", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True)


def test_no_shipped_file_uses_what_came_after_python_3_9(repository: Path) -> None:
    done = vermin(*shipped_files(repository))
    assert done.returncode == 0, done.stdout


def test_every_shipped_file_has_the_syntax_of_python_3_9(repository: Path) -> None:
    for path in shipped_files(repository):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=VERSION)


def test_no_shipped_file_computes_a_union_of_types_when_it_runs(repository: Path) -> None:
    found = {str(path): run_time_unions(path.read_text(encoding="utf-8")) for path in shipped_files(repository)}
    assert {path: lines for path, lines in found.items() if lines} == {}


def configurations() -> list[type]:
    """ModelConfig and the dataclasses inside it, whose annotations are read when a checkpoint is loaded."""
    found: list[type] = []
    waiting: list[type] = [ModelConfig]
    while waiting:
        found.append(waiting.pop())
        waiting += [hint for hint in typing.get_type_hints(found[-1]).values() if dataclasses.is_dataclass(hint)]
    return found


@pytest.mark.parametrize("config", configurations(), ids=lambda config: config.__name__)
def test_no_configuration_field_has_a_type_that_python_3_9_cannot_read(config: type) -> None:
    assert [name for name, annotation in config.__annotations__.items() if "|" in annotation] == []


def test_no_field_of_a_parameter_node_has_a_type_that_python_3_9_cannot_read(repository: Path) -> None:
    """Slicer's parameterNodeWrapper reads the annotations of the class that it decorates."""
    fields = [
        (node.name, field)
        for path in shipped_files(repository)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        if {getattr(decorator, "id", "") for decorator in node.decorator_list}
        & {"parameterNodeWrapper", "parameterPack"}
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    ]
    assert fields
    assert [(name, ast.unparse(field)) for name, field in fields if "|" in ast.unparse(field.annotation)] == []


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(1, int | float)",
        "import numpy as np\nisinstance(1, np.integer | np.floating)",
        "Number = int | None",
        "Names = list[str] | None",
        "def f(x: int | None): ...",
        "class A:\n    x: str | None = None",
    ],
)
def test_a_union_computed_when_the_code_runs_is_reported(source: str) -> None:
    assert run_time_unions(source)


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\ndef f(x: int | None) -> list[str] | None: ...",
        "flags = 1 | 2",
        "both = first | second",
        "isinstance(1, (int, float))",
    ],
)
def test_other_uses_of_the_bar_are_not_reported(source: str) -> None:
    assert run_time_unions(source) == []


@pytest.mark.parametrize("source", ["list(zip('a', 'b', strict=True))", "match 1:\n    case 1:\n        pass"])
def test_vermin_reports_what_python_3_10_brought(source: str, tmp_path: Path) -> None:
    path = tmp_path / "newer.py"
    path.write_text(source + "\n")
    done = vermin(path)
    assert done.returncode != 0
    assert "3.10" in done.stdout
