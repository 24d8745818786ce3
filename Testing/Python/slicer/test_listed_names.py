"""The list of names of Slicer's API that this module uses: whole entries, and names that slicer-core has, too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import slicer
import slicer.util

ENTRIES = json.loads((Path(__file__).parent / "slicer_api.json").read_text(encoding="utf-8"))
NAMES = [entry["name"] for entry in ENTRIES]


def test_every_entry_has_name_source_file_and_version():
    for entry in ENTRIES:
        assert set(entry) == {"name", "source", "since"}
        assert re.fullmatch(r"[\w.]+", entry["name"]), entry
        assert re.fullmatch(r"(\w+: )?[\w/.]+\.(h|py|ui|cxx|in)", entry["source"]), entry
        assert re.fullmatch(r"any|5\.\d+", entry["since"]), entry


def test_no_name_is_listed_twice():
    assert sorted(set(NAMES)) == sorted(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vtk")])
def test_mrml_and_segmentation_names_exist_in_slicer_core(name):
    value = slicer
    for part in name.split("."):
        assert hasattr(value, part), f"{value} has no {part}"
        value = getattr(value, part)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("slicer.util.")])
def test_utility_functions_exist_in_slicer_core(name):
    assert hasattr(slicer.util, name.split(".")[2])
