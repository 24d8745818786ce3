"""What a checkpoint says of where it comes from."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

from udfa_training.publish import commit, joined_terms, measured
from udfa_training.validation import ValidationReport


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


def test_a_mean_over_labels_that_no_validation_case_has_is_left_out() -> None:
    """NaN is no JSON: other readers of the checkpoint's metadata would stop at it."""
    report = ValidationReport({"a": {"liver": math.nan}, "b": {"liver": math.nan}})
    facts = measured(report)
    assert (facts["dice"], facts["cases"], "mean_dice" in facts) == ({}, {"a": {}, "b": {}}, False)
    json.dumps(facts, allow_nan=False)


def test_the_mean_is_over_the_labels_that_validation_cases_have() -> None:
    report = ValidationReport({"a": {"liver": 0.5, "spleen": math.nan}, "b": {"liver": 0.75, "spleen": math.nan}})
    assert measured(report)["mean_dice"] == 0.625
