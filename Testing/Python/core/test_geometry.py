"""Orientation: every order of the array that puts the voxels at the same places is seen alike by the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from udfa.errors import InvalidInputError
from udfa.geometry import Orientation, Volume, canonical_orientation, check_geometry, reorient

LEFT, POSTERIOR, SUPERIOR = np.eye(3)


def place(volume: Volume, index: tuple[int, int, int]) -> np.ndarray:
    """LPS position in mm of a voxel (D, H, W)."""
    return np.asarray(volume.origin_mm) + volume.direction @ (np.asarray(index) * volume.spacing_mm)


def test_a_volume_that_is_canonical_already_stays_as_it_is(kit: Any) -> None:
    volume = kit.volume(np.zeros((2, 3, 4)))
    assert canonical_orientation(volume, "axial") == Orientation((0, 1, 2), (False, False, False))


def test_a_sagittal_array_becomes_axial_by_hand_checked_steps(kit: Any) -> None:
    """Array axes run right, inferior, posterior; canonical is superior, posterior, left."""
    direction = np.stack([-LEFT, -SUPERIOR, POSTERIOR], axis=1)
    volume = kit.volume(np.arange(24).reshape(2, 3, 4), (3.0, 2.0, 1.0), direction, (10.0, 20.0, 30.0))
    orientation = canonical_orientation(volume, "axial")
    assert orientation == Orientation((1, 2, 0), (True, False, True))
    canonical = reorient(volume, orientation)
    assert canonical.array.shape == (3, 4, 2)
    assert canonical.spacing_mm == (2.0, 1.0, 3.0)
    # The first canonical voxel is the last one along "right" (2 voxels of 3 mm) and "inferior" (3 voxels of 2 mm).
    assert canonical.origin_mm == (10.0 - 3.0, 20.0, 30.0 - 4.0)
    assert canonical.array[0, 0, 0] == volume.array[1, 2, 0]
    np.testing.assert_array_equal(canonical.direction, np.stack([SUPERIOR, POSTERIOR, LEFT], axis=1))


@pytest.mark.parametrize("seed", range(4))
def test_reorienting_keeps_every_voxel_at_its_place_in_the_patient(kit: Any, seed: int) -> None:
    volume = kit.volume(np.arange(24).reshape(2, 3, 4), (3.0, 0.5, 1.0), kit.rotation(seed), (1.0, -2.0, 3.0))
    canonical = reorient(volume, canonical_orientation(volume, "axial"))
    for index in np.ndindex(canonical.array.shape):
        source = tuple(int(i) for i in np.argwhere(volume.array == canonical.array[index])[0])
        np.testing.assert_allclose(place(canonical, index), place(volume, source), atol=1e-9)


@pytest.mark.parametrize("slice_axis", ["axial", "acquisition"])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.5, 0.7, 5.0), (5.0, 1.5, 0.7), (1.0, 2.0, 2.0)])
def test_all_48_orders_of_the_same_voxels_have_one_canonical_form(
    kit: Any, slice_axis: str, seed: int | None, spacing_mm: tuple[float, float, float]
) -> None:
    axes = np.eye(3)[:, ::-1] if seed is None else kit.rotation(seed)
    volume = kit.volume(np.arange(60).reshape(3, 4, 5), spacing_mm, axes, (5.0, 6.0, 7.0))
    expected = reorient(volume, canonical_orientation(volume, slice_axis))
    for _, _, other in kit.rearrangements(volume):
        canonical = reorient(other, canonical_orientation(other, slice_axis))
        np.testing.assert_array_equal(canonical.array, expected.array)
        np.testing.assert_allclose(canonical.direction, expected.direction, atol=1e-12)
        np.testing.assert_allclose(canonical.origin_mm, expected.origin_mm, atol=1e-9)
        assert canonical.spacing_mm == expected.spacing_mm


@pytest.mark.parametrize("seed", range(20))
def test_axial_slices_are_never_upside_down_or_mirrored(kit: Any, seed: int) -> None:
    volume = kit.volume(np.zeros((2, 2, 2)), direction=kit.rotation(seed))
    canonical = reorient(volume, canonical_orientation(volume, "axial"))
    through, rows, columns = canonical.direction.T
    assert through @ SUPERIOR == pytest.approx(np.abs(volume.direction[2]).max())
    assert rows @ POSTERIOR > 0
    assert columns @ LEFT > 0


def test_rows_run_to_posterior_even_when_they_run_more_to_superior(kit: Any) -> None:
    """A strongly oblique volume: the slice axis is only just the one nearest to superior."""
    columns = np.array([0.5, 0.5, 0.0]) * 2**0.5
    rows = np.array([0.51, -0.51, (1 - 2 * 0.51**2) ** 0.5])
    through = np.cross(columns, rows)
    volume = kit.volume(np.zeros((2, 2, 2)), direction=np.stack([through, rows, columns], axis=1))
    orientation = canonical_orientation(volume, "axial")
    assert orientation.permutation == (0, 1, 2)
    assert orientation.flips[1]


def test_rounding_in_a_sagittal_header_does_not_decide_what_becomes_columns(kit: Any) -> None:
    """In sagittal slices both in-plane axes have no left component but for rounding: columns run to posterior."""
    for noise in (0.0, 1e-5, -1e-5):
        tilted = np.stack([LEFT, POSTERIOR + noise * LEFT, SUPERIOR - 2 * noise * LEFT], axis=1)
        volume = kit.volume(np.zeros((2, 3, 4)), (6.0, 1.0, 1.0), tilted)
        assert canonical_orientation(volume, "acquisition") == Orientation((0, 2, 1), (False, False, False))


def test_acquisition_slices_lie_across_the_thickest_axis(kit: Any) -> None:
    volume = kit.volume(np.zeros((2, 3, 4)), (1.0, 8.0, 1.0))
    assert canonical_orientation(volume, "acquisition").permutation[0] == 1
    assert canonical_orientation(volume, "axial").permutation[0] == 0


def test_inverting_an_orientation_restores_the_array(kit: Any) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    for permutation, flips, _ in kit.rearrangements(kit.volume(array)):
        orientation = Orientation(permutation, flips)
        np.testing.assert_array_equal(orientation.invert(orientation.apply(array)), array)


def test_a_box_of_the_canonical_array_is_found_in_the_source(kit: Any) -> None:
    array = np.arange(60).reshape(3, 4, 5)
    box = (slice(1, 2), slice(0, 2), slice(1, 3))
    for permutation, flips, _ in kit.rearrangements(kit.volume(array)):
        orientation = Orientation(permutation, flips)
        canonical = orientation.apply(array)
        source_box = orientation.invert_box(box, canonical.shape)
        assert set(array[source_box].ravel()) == set(canonical[box].ravel())


def test_a_left_handed_grid_is_usable(kit: Any) -> None:
    volume = kit.volume(np.zeros((2, 2, 2)), direction=np.diag([1.0, 1.0, -1.0]))
    check_geometry(volume)
    assert canonical_orientation(volume, "axial").flips == (True, False, False)


@pytest.mark.parametrize(
    "spacing_mm", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan")), (float("inf"), 1, 1)]
)
def test_spacing_that_is_not_positive_is_refused(kit: Any, spacing_mm: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidInputError, match=r"voxel spacing is .* must be positive"):
        check_geometry(kit.volume(np.zeros((2, 2, 2)), spacing_mm))


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]], "not orthonormal"),
        ([[2, 0, 0], [0, 1, 0], [0, 0, 1]], "not orthonormal"),
        ([[1, 1, 0], [0, 0, 0], [0, 0, 1]], "not orthonormal"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], "not orthonormal"),
        ([[1, 0], [0, 1]], "not a finite 3x3 matrix"),
        ([[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]], "not a finite 3x3 matrix"),
    ],
)
def test_axes_that_are_not_orthonormal_are_refused(kit: Any, direction: list[list[float]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_geometry(kit.volume(np.zeros((2, 2, 2)), direction=np.array(direction)))


def test_rounding_of_direction_cosines_is_tolerated(kit: Any) -> None:
    check_geometry(kit.volume(np.zeros((2, 2, 2)), direction=kit.rotation(3).round(3)))
