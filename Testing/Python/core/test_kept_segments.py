"""Stored segmentations as one labelmap for correction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.kept_segments import KeptLabel, check_grid, compose
from udfa.labels import describe
from udfa.segmentation_reader import Segment, Segmentation

AXES = np.eye(3)[:, ::-1].copy()
MODEL = (describe("liver"), describe("spleen"))
RED = (255, 0, 0)


def volume(shape: tuple[int, int, int] = (3, 4, 5), origin: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Volume:
    return Volume(np.zeros(shape, np.int16), (2.0, 1.0, 0.5), AXES, origin)


def stored(
    layers: np.ndarray, *segments: Segment, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Segmentation:
    return Segmentation(layers, volume(layers.shape[1:], origin), segments)


def test_segments_take_the_models_values_by_id_terminology_or_name() -> None:
    layers = np.zeros((1, 3, 4, 5), np.int16)
    layers[0, 0], layers[0, 1] = 7, 9
    spleen = Segment("a", "Milz", RED, 9, terminology=describe("spleen").terminology())
    for liver in (Segment("liver", "x", RED, 7), Segment("b", "Liver", RED, 7), Segment("b", "LIVER", RED, 7)):
        composition = compose(stored(layers, liver, spleen), volume(), MODEL)
        assert (composition.labelmap[0] == 1).all()
        assert (composition.labelmap[1] == 2).all()
        assert (composition.labelmap[2] == 0).all()


def test_other_segments_are_kept_with_name_colour_and_terminology() -> None:
    layers = np.zeros((1, 3, 4, 5), np.int16)
    layers[0, 0], layers[0, 1] = 1, 2
    tumour = Segment("t", "Tumour", (1, 2, 3), 2, terminology="a~b^c^d~e^f^g~^^~h~^^~^^")
    composition = compose(stored(layers, Segment("liver", "My liver", RED, 1), tumour), volume(), MODEL)
    assert (composition.labelmap[1] == 3).all()
    kept = composition.labels[3]
    assert isinstance(kept, KeptLabel)
    assert (kept.name, kept.title, kept.color, kept.terminology()) == ("t", "Tumour", (1, 2, 3), tumour.terminology)
    assert (composition.labels[1].title, composition.labels[1].color) == ("My liver", RED)
    assert composition.labels[2] == MODEL[1]


def test_other_segments_keep_their_values_where_the_model_does_not_need_them() -> None:
    layers = np.zeros((1, 3, 4, 5), np.int16)
    layers[0, 0], layers[0, 1], layers[0, 2] = 1, 90, 40
    segments = (Segment("liver", "Liver", RED, 1), Segment("x", "X", RED, 90), Segment("y", "Y", RED, 40))
    assert np.unique(compose(stored(layers, *segments), volume(), MODEL).labelmap).tolist() == [1, 40, 90]


def test_a_segmentation_of_a_part_of_the_volume_lands_in_its_place() -> None:
    layers = np.ones((1, 1, 2, 2), np.int16)
    part = stored(layers, Segment("liver", "Liver", RED, 1), origin=(0.5, 1.0, 2.0))
    labelmap = compose(part, volume(), MODEL).labelmap
    assert np.argwhere(labelmap).tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2]]


def test_a_segmentation_that_reaches_beyond_the_volume_is_refused() -> None:
    layers = np.ones((1, 3, 4, 5), np.int16)
    shifted = stored(layers, Segment("liver", "Liver", RED, 1), origin=(0.5, 0.0, 0.0))
    with pytest.raises(InvalidInputError, match="48 of 60 voxels"):
        compose(shifted, volume(), MODEL)


def test_an_empty_margin_beyond_the_volume_does_no_harm() -> None:
    layers = np.zeros((1, 5, 6, 7), np.int16)
    layers[0, 2, 2, 2] = 1
    wide = stored(layers, Segment("liver", "Liver", RED, 1), origin=(-0.5, -1.0, -2.0))
    assert np.argwhere(compose(wide, volume(), MODEL).labelmap).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_mm": (2.0, 1.0, 0.6)},
        {"direction": AXES[:, [1, 0, 2]]},
        {"direction": AXES * [-1, 1, 1]},
    ],
)
def test_another_grid_is_refused(change: dict[str, object]) -> None:
    one = stored(np.ones((1, 3, 4, 5), np.int16))
    other = replace(one, geometry=replace(one.geometry, **change))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="different grids"):
        check_grid(other, volume())


def test_a_grid_between_the_voxels_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="shifted"):
        check_grid(stored(np.ones((1, 3, 4, 5), np.int16), origin=(0.25, 0.0, 0.0)), volume())
    check_grid(stored(np.ones((1, 3, 4, 5), np.int16), origin=(0.001, 0.0, 0.0)), volume())


def test_segments_that_overlap_are_refused_by_name() -> None:
    layers = np.zeros((2, 3, 4, 5), np.int16)
    layers[0, 0], layers[1, 0, 0] = 1, 1
    overlapping = stored(layers, Segment("liver", "Liver", RED, 1), Segment("t", "Tumour", RED, 1, layer=1))
    with pytest.raises(InvalidInputError, match="'Liver' and 'Tumour' overlap"):
        compose(overlapping, volume(), MODEL)


def test_segments_of_different_layers_that_do_not_overlap_are_joined() -> None:
    layers = np.zeros((2, 3, 4, 5), np.int16)
    layers[0, 0], layers[1, 1] = 1, 1
    composition = compose(
        stored(layers, Segment("liver", "Liver", RED, 1), Segment("t", "Tumour", RED, 1, layer=1)), volume(), MODEL
    )
    assert np.unique(composition.labelmap[0]).tolist() == [1]
    assert np.unique(composition.labelmap[1]).tolist() == [3]


def test_a_segmentation_without_any_known_segment_is_refused() -> None:
    layers = np.ones((1, 3, 4, 5), np.int16)
    with pytest.raises(InvalidInputError, match="None of the segments"):
        compose(stored(layers, Segment("label_1", "Label 1", RED, 1)), volume(), MODEL)


def test_an_image_taken_for_a_labelmap_gives_a_short_message() -> None:
    layers = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
    values = [Segment(f"label_{value}", f"Label {value}", RED, value) for value in range(1, 60)]
    with pytest.raises(InvalidInputError, match=r"segments \('Label 1', .*'Label 10' and 49 more\) is one"):
        compose(stored(layers, *values), volume(), MODEL)


def test_an_empty_segmentation_may_be_filled() -> None:
    composition = compose(stored(np.zeros((1, 3, 4, 5), np.int16)), volume(), MODEL)
    assert not composition.labelmap.any()
    assert composition.labels == {1: MODEL[0], 2: MODEL[1]}


def test_more_segments_than_values_are_refused() -> None:
    segments = [Segment("liver", "Liver", RED, 1)] + [Segment(f"s{i}", f"S{i}", RED, 2 + i) for i in range(254)]
    with pytest.raises(InvalidInputError, match="more than 255"):
        compose(stored(np.zeros((1, 1, 1, 1), np.int16), *segments), volume((1, 1, 1)), MODEL)
