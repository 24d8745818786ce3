"""What a checkpoint says of where it comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from udfa_training.publish import commit, joined_terms


def git(folder: Path, *words: str) -> None:
    person = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *person, *words], cwd=folder, check=True, capture_output=True)


def test_the_commit_is_that_of_the_repository_which_tracks_the_code(tmp_path: Path) -> None:
    tracked, installed = tmp_path / "code.py", tmp_path / "environment" / "code.py"
    installed.parent.mkdir()
    for path in (tracked, installed):
        path.write_text("x = 1\n")
    assert commit(tracked) == ""
    git(tmp_path, "init")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    assert len(commit(tracked)) == 12
    assert commit(installed) == ""
    tracked.write_text("x = 2\n")
    assert commit(tracked).endswith("-dirty")


def test_terms_are_named_once_also_after_several_runs() -> None:
    first = joined_terms(["research only", "CC BY 4.0"])
    assert first == "research only; CC BY 4.0"
    assert joined_terms([first, "CC BY 4.0", "CC BY-NC 4.0"]) == "research only; CC BY 4.0; CC BY-NC 4.0"
