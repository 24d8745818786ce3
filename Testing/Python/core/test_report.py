"""The overview picture: what is shown, on which side, in which proportions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from udfa.errors import UDFAError
from udfa.geometry import Orientation, Volume, reorient
from udfa.labels import describe
from udfa.report import Overview, draw_overview, write_overview
from udfa.statistics import label_statistics

pytest.importorskip("matplotlib")

LABELS = {1: describe("spleen"), 2: describe("liver"), 3: describe("gallbladder")}

# Axes 0, 1, 2 of the array advance towards superior, posterior and left, as `canonical_orientation` leaves them.
CANONICAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def overview(orientation: Orientation | None = None) -> Overview:
    """A bright block of 10 x 20 x 30 voxels; spleen in the patient's left back, liver right; no gallbladder."""
    array = np.full((10, 20, 30), 100, np.int16)
    labelmap = np.zeros((10, 20, 30), np.uint8)
    labelmap[2:8, 12:18, 22:28] = 1
    labelmap[1:9, 4:16, 2:14] = 2
    image = Volume(array, (5.0, 2.0, 1.0), CANONICAL)
    if orientation is not None:
        image, labelmap = reorient(image, orientation), np.ascontiguousarray(orientation.apply(labelmap))
    rows = label_statistics(labelmap, image, LABELS)
    return Overview(image, labelmap, LABELS, rows, "case7.nii.gz", "tiny", window=(0.0, 200.0))


def planes(content: Overview) -> list[tuple[np.ndarray, tuple[float, ...], list[str]]]:
    """Overlay, extent in mm and texts of every drawn plane; the legend is left out."""
    axes = [a for a in draw_overview(content).axes if a.images]
    return [
        (np.asarray(a.images[1].get_array()), a.images[0].get_extent(), [t.get_text() for t in a.texts]) for a in axes
    ]


def legend_texts(content: Overview) -> list[str]:
    return [text.get_text() for axes in draw_overview(content).axes if not axes.images for text in axes.texts]


def test_the_patients_left_is_drawn_on_the_right_and_posterior_below() -> None:
    overlay, _, texts = planes(overview())[0]
    spleen = np.all(np.isclose(overlay[..., :3], LABELS[1].color01), axis=-1)
    rows, columns = np.nonzero(spleen)
    assert rows.min() >= 10
    assert columns.min() >= 15
    assert {"R", "L", "A", "P"} <= set(texts)
    assert texts.index("R") < texts.index("L")


def test_superior_is_drawn_above_in_the_coronal_plane() -> None:
    content = overview()
    labelmap = np.zeros_like(content.labelmap)
    labelmap[8:, 5:10, 5:10] = 2
    overlay, _, texts = planes(replace(content, labelmap=labelmap))[-2]
    assert np.nonzero(overlay[..., 3])[0].max() <= 1
    assert texts[2:4] == ["S", "I"]
    assert texts[4].startswith("coronal")


def test_planes_have_the_proportions_of_the_patient() -> None:
    shown = planes(overview())
    assert tuple(shown[0][1]) == (0, 30.0, 40.0, 0)
    assert tuple(shown[-2][1]) == (0, 30.0, 50.0, 0)
    assert tuple(shown[-1][1]) == (0, 40.0, 50.0, 0)


@pytest.mark.parametrize(
    "orientation",
    [Orientation((1, 2, 0), (False, True, False)), Orientation((2, 1, 0), (True, False, True))],
)
def test_the_picture_does_not_depend_on_the_order_of_the_array_axes(orientation: Orientation) -> None:
    for (first, extent, texts), (second, extent2, texts2) in zip(planes(overview()), planes(overview(orientation))):
        np.testing.assert_array_equal(first, second)
        assert extent == pytest.approx(extent2)
        assert texts == texts2


def test_the_legend_gives_volumes_and_names_what_was_not_found() -> None:
    texts = legend_texts(overview())
    # 6 * 6 * 6 voxels of 0.01 mL, 8 * 12 * 12 voxels of 0.01 mL.
    assert [text for text in texts if text.endswith("mL")] == ["2.2 mL", "11.5 mL"]
    assert "Not found: Gallbladder" in texts


def test_a_double_oblique_stack_is_not_called_axial() -> None:
    content = overview()
    angle = np.pi / 5
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    image = replace(content.image, direction=turn @ np.asarray(content.image.direction))
    names = [texts[4].split()[0] for _, _, texts in planes(replace(content, image=image))]
    assert set(names[:-1]) == {"oblique"}
    assert names[-1] == "sagittal"


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 1, 6), (3, 40, 2)])
def test_thin_volumes_and_empty_results_can_be_drawn(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    image = Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), (5.0, 1.0, 1.0), CANONICAL)
    for labelmap in (np.zeros(shape, np.uint8), np.ones(shape, np.uint8)):
        rows = label_statistics(labelmap, image, LABELS)
        write_overview(tmp_path / "o.png", Overview(image, labelmap, LABELS, rows, "thin", "tiny"))
        assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_title_model_and_notice_are_on_the_picture() -> None:
    texts = {text.get_text() for text in draw_overview(overview()).texts}
    assert texts == {"case7.nii.gz", "tiny", "Research use only. Not for diagnosis."}


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.find_spec

    def without_matplotlib(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_matplotlib)
    with pytest.raises(UDFAError, match="pip install matplotlib"):
        write_overview(tmp_path / "o.png", overview())
    assert list(tmp_path.iterdir()) == []


def test_drawing_touches_no_window_system() -> None:
    code = (
        "import sys, numpy as np; from udfa.geometry import Volume; from udfa.labels import describe;"
        "from udfa.report import Overview, draw_overview;"
        "a = np.arange(60.).reshape(3, 4, 5); v = Volume(a, (1., 1., 1.), np.eye(3));"
        "draw_overview(Overview(v, np.zeros(a.shape, np.uint8), {1: describe('liver')}, [], 't', 'm'));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    folder = Path(importlib.util.find_spec("udfa").origin).parent.parent  # type: ignore[union-attr, arg-type]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
