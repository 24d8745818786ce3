"""The offscreen views show volumes, segmentations and surfaces where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from headless.samples import add_transform, add_volume, fake_model, fake_result, ijk_to_ras
from UDFASegmentationLib.Contracts import SegmentationSettings
from UDFASegmentationLib.SegmentationWriter import writeResult

pytestmark = pytest.mark.rendering

SIZE = (200, 160)


@pytest.fixture
def volume() -> Any:
    """40 x 40 x 40 mm of 40 HU around the origin: K to superior, J to anterior, I to right."""
    node = add_volume(np.full((40, 40, 40), 40, np.int16), ijk_to_ras(origin=(-20.0, -20.0, -20.0)))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    return node


@pytest.fixture
def segmentation(volume: Any) -> Any:
    """The liver: a block at the right and front of the patient; the spleen: one at the left and back."""
    labelmap = np.zeros((40, 40, 40), np.uint8)
    labelmap[10:30, 25:35, 25:35] = 1
    labelmap[10:30, 5:15, 5:15] = 2
    settings = SegmentationSettings(closedSurface=True)
    return writeResult(volume, fake_result(labelmap), fake_model(labelmap, "liver", "spleen"), settings)


@pytest.fixture
def open_view() -> Iterator[Callable[..., Any]]:
    """Opens a view by class name and closes it after the test. Without OpenGL the module must not be imported."""
    import headless.views

    with ExitStack() as stack:
        yield lambda name, *arguments, **named: stack.enter_context(getattr(headless.views, name)(*arguments, **named))


def is_reddish(picture: np.ndarray) -> np.ndarray:
    red, _, blue = (picture[..., channel].astype(int) for channel in range(3))
    return red > blue + 20


def is_purple(picture: np.ndarray) -> np.ndarray:
    _, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return blue > green + 10


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Mean row and column, as shares of height and width."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean() / mask.shape[0]), float(columns.mean() / mask.shape[1])


def test_a_volume_appears_in_its_window_on_black(open_view, volume):
    view = open_view("SliceView", "Axial", SIZE)
    view.show(volume)
    picture = view.render()
    assert picture.shape == (160, 200, 3)
    # 40 HU is half-way between -160 and 240.
    assert abs(int(picture[80, 100, 0]) - 127) <= 1
    assert (picture[80, 100] == picture[80, 100, 0]).all()
    assert (picture[2, 2] == 0).all()


def test_segments_lie_on_the_volume_as_radiologists_see_it_right_on_the_left_and_front_on_top(
    open_view, volume, segmentation
):
    view = open_view("SliceView", "Axial", SIZE)
    view.show(volume)
    picture = view.render()
    row, column = middle(is_reddish(picture))
    assert row < 0.4
    assert column < 0.45
    row, column = middle(is_purple(picture))
    assert row > 0.6
    assert column > 0.55


def test_the_overlay_lets_the_volume_shine_through_and_has_an_outline(open_view, volume, segmentation):
    display = segmentation.GetDisplayNode()
    display.SetOpacity2DFill(0.5)
    view = open_view("SliceView", "Axial", SIZE)
    view.show(volume)
    with_volume = view.render()
    mask = is_reddish(with_volume)
    row, column = (round(share * n) for share, n in zip(middle(mask), mask.shape, strict=True))
    # Half of the liver's red (221) on half of the volume's grey (127).
    assert abs(int(with_volume[row, column, 0]) - 174) <= 3
    assert with_volume[mask][:, 0].max() > with_volume[row, column, 0] + 10


def test_moving_volume_and_segmentation_by_their_transform_moves_both(open_view, volume, segmentation):
    view = open_view("SliceView", "Axial", SIZE)
    view.show(volume)
    view.set_field_of_view(80.0, (0.0, 0.0, 0.0))
    before = middle(is_reddish(view.render()))
    shift = add_transform(ijk_to_ras(origin=(-16.0, 0.0, 0.0)))
    volume.SetAndObserveTransformNodeID(shift.GetID())
    segmentation.SetAndObserveTransformNodeID(shift.GetID())
    picture = view.render()
    after = middle(is_reddish(picture))
    # 16 mm to the patient's left is a fifth of 80 mm to the right in the picture.
    assert after == pytest.approx((before[0], before[1] + 0.2), abs=0.01)
    assert picture[80, 130, 0] > 100


def test_the_slice_that_was_asked_for_is_shown(open_view, volume, segmentation):
    view = open_view("SliceView", "Axial", SIZE)
    view.show(volume)
    view.go_to(-18.0)
    assert not is_reddish(view.render()).any()
    view.go_to(5.0)
    assert is_reddish(view.render()).any()


@pytest.mark.parametrize(("direction", "liver_is_left"), [((0.0, 1.0, 0.0), True), ((0.0, -1.0, 0.0), False)])
def test_surfaces_are_seen_from_the_front_or_from_behind_and_fill_the_view(
    open_view, segmentation, direction, liver_is_left
):
    view = open_view("ThreeDView", SIZE)
    view.look_from(direction, margin=0.1)
    picture = view.render()
    liver, spleen = middle(is_reddish(picture)), middle(is_purple(picture))
    assert (liver[1] < spleen[1]) is liver_is_left
    columns = np.flatnonzero((picture.max(axis=2) > 8).any(axis=0))
    rows = np.flatnonzero((picture.max(axis=2) > 8).any(axis=1))
    share = max(np.ptp(columns) / SIZE[0], np.ptp(rows) / SIZE[1])
    assert share == pytest.approx(0.8, abs=0.03)


def test_a_view_of_nothing_is_just_background(open_view):
    view = open_view("ThreeDView", SIZE, background=(0.0, 0.0, 1.0))
    view.look_from((0.0, 1.0, 0.0))
    assert (view.render() == (0, 0, 255)).all()


def test_the_picture_is_also_written_as_png(open_view, volume, tmp_path: Path):
    view = open_view("SliceView", "Coronal", SIZE)
    view.show(volume)
    picture = view.render(tmp_path / "view.png")
    stored = plt.imread(tmp_path / "view.png")
    np.testing.assert_array_equal(np.rint(stored[..., :3] * 255).astype(np.uint8), picture)
