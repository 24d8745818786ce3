"""The Makefile, the CI script and the pre-commit hooks do what they say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml


def planned(folder: Path, *arguments: str) -> list[str]:
    """Commands that make would run in a folder, without running them; deaf to a make that runs these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV"))}
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_fresh_checkout_gets_an_environment_before_lint_and_tests(repository: Path) -> None:
    commands = "\n".join(planned(repository, "--always-make", "test"))
    steps = ["-m venv", '-e ".[test]"', "ruff check", "ruff format --check", "-m mypy", "-m pytest"]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places)


def test_the_demo_installs_only_what_the_demo_needs(repository: Path) -> None:
    commands = "\n".join(planned(repository, "--always-make", "demo"))
    assert '-e ".[demo]"' in commands
    assert "[test]" not in commands
    assert commands.split()[-1] == "Testing/demo.py"


@pytest.mark.parametrize("target", ["demo", "test"])
def test_a_named_environment_is_used_as_it_is(repository: Path, target: str) -> None:
    commands = planned(repository, target, "VENV=/elsewhere")
    assert not [command for command in commands if "pip" in command or "-m venv" in command]
    assert "/elsewhere/bin/python" in commands[-1]


def test_an_environment_is_not_reused_after_pyproject_has_changed(repository: Path, tmp_path: Path) -> None:
    """Make compares times: a stamp older than pyproject.toml is made again, a newer one is not."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/pip", "ready-for-demo", "ready-for-test"):
        (tmp_path / ".venv" / name).touch()
    for name, seconds in (("pyproject.toml", 2000), (".venv/ready-for-demo", 3000), (".venv/ready-for-test", 1000)):
        os.utime(tmp_path / name, (seconds, seconds))

    def installs(target: str) -> bool:
        return "pip install" in "\n".join(planned(tmp_path, target))

    assert installs("test")
    assert not installs("demo")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a `make`, an `apt-get` and an `id` that only write down how they were called."""
    folder = tmp_path / "programs"
    folder.mkdir()
    log = tmp_path / "calls"
    for name, extra in (
        ("make", '"require $UDFA_REQUIRE_SLICER $UDFA_REQUIRE_RENDERING"'),
        ("apt-get", '"frontend $DEBIAN_FRONTEND"'),
    ):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" {extra} >> {log}\n')
    (folder / "id").write_text("#!/bin/sh\necho ${FAKE_USER:-0}\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder


def ci_calls(repository: Path, programs: Path, user: str) -> list[str]:
    """What .ci/run calls for the user with that number."""
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "FAKE_USER": user}
    for name in ("UDFA_REQUIRE_SLICER", "UDFA_REQUIRE_RENDERING"):
        environment.pop(name, None)
    subprocess.run([repository / ".ci" / "run", "PYTEST_ARGS=-x"], cwd="/", env=environment, check=True)
    return (programs.parent / "calls").read_text().splitlines()


def test_ci_installs_what_rendering_needs_and_lets_nothing_be_skipped(repository: Path, programs: Path) -> None:
    update, install, make = ci_calls(repository, programs, user="0")
    assert update.startswith("apt-get update")
    assert {"libegl1", "libgl1-mesa-dri", "libfontconfig1"} <= set(install.split())
    assert make == "make test PYTEST_ARGS=-x require 1 1"


def test_ci_leaves_the_system_alone_when_it_is_not_root(repository: Path, programs: Path) -> None:
    assert ci_calls(repository, programs, user="1000") == ["make test PYTEST_ARGS=-x require 1 1"]


def test_the_pre_commit_hooks_use_the_installed_tools(repository: Path) -> None:
    configuration = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
    hooks = [hook for source in configuration["repos"] for hook in source["hooks"]]
    assert {source["repo"] for source in configuration["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"].split()[:2] for hook in hooks] == [["ruff", "check"], ["ruff", "format"], ["mypy"]]
