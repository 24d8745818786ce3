"""The demo writes all its files, with the right numbers; here with a model that always gives the reference."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import slicer.util

import demo
import headless.overview
from headless.boot import clear_scene
from headless.reading import read_labels
from headless.samples import fake_model
from udfa.volume_io import read_volume
from udfa_training.label_names import BTCV_LABELS
from UDFASegmentationLib.Contracts import LoadedModel
from UDFASegmentationLib.SegmentationLogic import SegmentationLogic


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The reference labelmap, which the model of the demo gives as its result."""
    labelmap = read_volume(demo.SAMPLE / "abdomen_ct_reference.nii.gz").array

    def model(logic: SegmentationLogic, name: str | None = None, device: str = "auto") -> LoadedModel:
        return fake_model(labelmap, *BTCV_LABELS)

    monkeypatch.setattr(SegmentationLogic, "model", model)
    return labelmap


def without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless.overview, "missing_rendering", lambda: "no OpenGL here")


def test_the_demo_leaves_segmentation_scene_and_statistics(reference, tmp_path: Path, monkeypatch, capsys):
    without_opengl(monkeypatch)
    assert demo.main(["--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Liver                           1125.7 mL   1.000" in printed
    assert "Esophagus                          0.0 mL   -" in printed
    with (tmp_path / "statistics.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    # 41692 voxels of 27 mm3.
    assert rows["liver"]["voxels"] == "41692"
    assert rows["liver"]["volume_ml"] == "1125.684"
    clear_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    volume, node = slicer.util.getNode("abdomen_ct"), slicer.util.getNode("abdomen_ct segmentation")
    values = {name: value for value, name in enumerate(BTCV_LABELS, start=1)}
    np.testing.assert_array_equal(read_labels(node, volume, values), reference)
    loaded = slicer.util.loadSegmentation(str(tmp_path / "abdomen.seg.nrrd"))
    np.testing.assert_array_equal(read_labels(loaded, volume, values), reference)


def test_without_opengl_the_picture_is_drawn_plainly_and_the_demo_says_so(
    reference, tmp_path: Path, monkeypatch, capsys
):
    without_opengl(monkeypatch)
    demo.main(["--output", str(tmp_path)])
    assert "Panels drawn by numpy and matplotlib (no OpenGL here)." in capsys.readouterr().out
    check_picture(tmp_path / "overview.png")


@pytest.mark.rendering
def test_with_opengl_the_picture_shows_mrml_views_and_the_demo_says_so(reference, tmp_path: Path, capsys):
    demo.main(["--output", str(tmp_path)])
    assert "Panels drawn by the MRML views of slicer-core." in capsys.readouterr().out
    check_picture(tmp_path / "overview.png")


def check_picture(path: Path) -> None:
    """Each of the four panels, and the legend, shows something in colour, and the liver left of the spleen."""
    picture = plt.imread(path)[..., :3]
    assert picture.shape == (950, 1650, 3)
    colourful = np.ptp(picture, axis=2) > 0.15
    top, bottom = slice(10, 530), slice(540, 940)
    left, right, legend = slice(10, 630), slice(640, 1260), slice(1270, 1650)
    for rows, columns in ((top, left), (top, right), (bottom, left), (bottom, right)):
        assert colourful[rows, columns].mean() > 0.05
    assert colourful[:, legend].any()
    # The spleen is purple, and in the axial slice on the right: the patient's left.
    axial = picture[top, left]
    purple = (axial[..., 2] > axial[..., 1] + 0.05) & (axial[..., 0] > axial[..., 1] + 0.05)
    assert np.nonzero(purple)[1].mean() > 310


def test_an_unknown_model_ends_the_demo_with_a_message(tmp_path: Path):
    with pytest.raises(SystemExit, match="demo: There is no model 'no-such-model'"):
        demo.main(["--model", "no-such-model", "--output", str(tmp_path)])
