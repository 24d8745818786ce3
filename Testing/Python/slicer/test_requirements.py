"""Tests that need slicer-core or OpenGL never pass silently where these are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run_pytest(tmp_path: Path, missing: str, *tests: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in another process in which a requirement looks missing."""
    plugin = f"import headless.requirements as r\nr.missing_{missing} = lambda: 'there is no {missing} here'\n"
    (tmp_path / "without.py").write_text(plugin, encoding="utf-8")
    paths = [tmp_path, ROOT / "Testing", ROOT / "UDFASegmentation"]
    nothing_required = {"UDFA_REQUIRE_SLICER": "", "UDFA_REQUIRE_RENDERING": ""}
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **nothing_required, **environment}
    arguments = [sys.executable, "-m", "pytest", "-p", "without", "-p", "no:cacheprovider", *map(str, tests)]
    return subprocess.run(arguments, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_without_slicer_core_test_files_are_skipped_with_the_reason(tmp_path: Path):
    run = run_pytest(tmp_path, "slicer", ROOT / "Testing/Python/slicer/test_terminology.py")
    assert "1 skipped" in run.stdout
    assert "there is no slicer here" in run.stdout
    assert "passed" not in run.stdout


def test_without_slicer_core_a_run_that_requires_it_fails(tmp_path: Path):
    tests = ROOT / "Testing/Python/slicer/test_terminology.py"
    run = run_pytest(tmp_path, "slicer", tests, UDFA_REQUIRE_SLICER="1")
    assert run.returncode not in (0, 5)
    assert "UDFA_REQUIRE_SLICER is set, but: there is no slicer here" in run.stdout


@pytest.mark.parametrize("required", [False, True])
def test_without_opengl_rendering_tests_are_skipped_or_fail_if_required(tmp_path: Path, required: bool):
    tests = Path(__file__).with_name("test_opengl.py")
    run = run_pytest(tmp_path, "rendering", tests, UDFA_REQUIRE_RENDERING="1" if required else "")
    assert "there is no rendering here" in run.stdout
    assert "passed" not in run.stdout
    assert (run.returncode == 0) is not required
