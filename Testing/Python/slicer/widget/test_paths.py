"""Folders as people have them: with spaces, accents and characters of any script, on every system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import slicer
import slicer.util

from doubles.harness import MODULE_FILE, REPOSITORY
from doubles.pythonqt import FileDialogs

FOLDERS = ("My Documents (copy)", "M\u00fcller & S\u00f6hne #1 100%", "\u8179\u90e8 CT \u2013 \u0411\u0440\u044e\u0448")


@pytest.fixture(params=FOLDERS, ids=["spaces", "accents", "other scripts"])
def folder(request, tmp_path) -> Path:
    path = tmp_path / request.param
    path.mkdir()
    return path


def segmented(opened):
    opened.settle()
    opened.click("segmentButton")
    opened.settle()
    return opened


@pytest.mark.parametrize("kind", [".seg.nrrd", ".nii.gz", ".nrrd", ".stl", ".obj"])
def test_results_are_exported_to_any_folder(opened, volume, folder, kind):
    segmented(opened)
    volume.SetName(folder.name)
    opened.panel.parameterNode.resultSegmentation.SetName(folder.name)
    target = folder / f"{folder.name}{kind}"
    FileDialogs.answers.append(str(folder if kind in (".stl", ".obj") else target))
    next(a for a in opened.ui.exportButton.menu().actions() if f"({kind})" in a.text).trigger()
    assert opened.messages.shown == []
    written = sorted(path.name for path in folder.iterdir())
    assert len(written) == (3 if kind == ".obj" else 2), written
    assert all(path.stat().st_size > 0 for path in folder.iterdir())
    if kind == ".seg.nrrd":
        node = slicer.util.loadSegmentation(str(target))
        assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volume).sum() == 24


def test_the_table_is_saved_in_any_folder(opened, volume, folder):
    segmented(opened)
    FileDialogs.answers.append(str(folder / "volumes.csv"))
    opened.click("saveTableButton")
    assert (folder / "volumes.csv").read_text(encoding="utf-8").startswith("Segment,Volume (mL)")


def test_a_checkpoint_in_any_folder_can_be_added_and_is_remembered(opened, checkpoint, folder):
    path = folder / f"{folder.name}.safetensors"
    shutil.copy(checkpoint, path)
    FileDialogs.answers.append(str(path))
    opened.messages.answers.append(True)
    opened.click("addModelButton")
    assert opened.panel.models.current.path == path.resolve()
    from UDFASegmentationLib.Settings import applicationSettings

    assert applicationSettings().read().extraCheckpoints == (str(path.resolve()),)


@pytest.mark.usefixtures("_doubles")
def test_sample_data_is_fetched_from_any_folder(folder, tmp_path, monkeypatch):
    from UDFASegmentationLib import SampleDataSources

    shutil.copytree(MODULE_FILE.parent / "Resources" / "SampleData", folder / "SampleData")
    monkeypatch.setattr(SampleDataSources, "sampleFolder", lambda: folder / "SampleData")
    sources = []

    class Logic:
        def registerCustomSampleDataSource(self, **source):
            sources.append(source)

    SampleDataSources.registerSampleData(Logic())
    for source in sources:
        assert source["uris"].isascii()
        urllib.request.urlretrieve(source["uris"], tmp_path / source["fileNames"])
        original = MODULE_FILE.parent / "Resources" / "SampleData" / source["fileNames"].removeprefix("UDFA-")
        assert (tmp_path / source["fileNames"]).read_bytes() == original.read_bytes()


OPEN_SCRIPT = """
import sys, tempfile
from pathlib import Path
sys.path[:0] = [{module!r}, {testing!r}]
import slicer
sys.path.append({doubles!r})
from doubles import harness
harness.MODULE_FILE = Path({module!r}) / "UDFASegmentation.py"
with harness.installed(Path(tempfile.mkdtemp())):
    user = harness.Harness()
    user.open(installer=None)
    user.widget.enter()
    print("MODELS", user.ui.modelSelector.count, user.panel.models.current.path)
    user.settle()
    user.close()
"""


def test_the_panel_opens_from_an_extension_installed_in_any_folder(folder):
    module = folder / "UDFASegmentation"
    shutil.copytree(MODULE_FILE.parent, module, ignore=shutil.ignore_patterns("__pycache__", "SampleData"))
    testing = REPOSITORY / "Testing"
    script = OPEN_SCRIPT.format(module=str(module), testing=str(testing), doubles=str(testing / "Python"))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    shown = done.stdout.decode("utf-8")
    assert f"MODELS 2 {module / 'Resources' / 'models'}" in shown
