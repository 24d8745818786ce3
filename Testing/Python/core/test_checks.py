"""Bad voxels: each has its own message, and what merely looks wrong is a warning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from udfa.checks import check_volume
from udfa.config import PreprocessingConfig
from udfa.errors import InvalidInputError

CT = PreprocessingConfig(modality="CT")
MR = PreprocessingConfig(modality="MR")


def ct_array(dtype: Any = np.int16) -> np.ndarray:
    """Half air, half soft tissue and bone."""
    array = np.full((4, 6, 8), -1000)
    array[:, 3:] = 40
    array[:, 5] = 700
    return array.astype(dtype)


def mr_array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, size=(4, 6, 8)).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64", ">i2"])
def test_a_ct_in_hounsfield_units_gives_no_warning(kit: Any, dtype: str) -> None:
    assert check_volume(kit.volume(ct_array(dtype)), CT) == []


def test_an_mr_gives_no_warning_to_an_mr_model(kit: Any) -> None:
    assert check_volume(kit.volume(mr_array()), MR) == []


def test_an_mr_for_a_ct_model_gives_a_warning(kit: Any) -> None:
    (warning,) = check_volume(kit.volume(mr_array()), CT)
    assert "expects CT in Hounsfield units" in warning
    assert f"lowest value is {mr_array().min()}" in warning


def test_a_ct_without_rescaling_gives_a_warning(kit: Any) -> None:
    (warning,) = check_volume(kit.volume(ct_array() + 1024), CT)
    assert "CT without rescaling" in warning


def test_a_ct_of_nothing_but_air_gives_a_warning(kit: Any) -> None:
    array = np.full((2, 3, 4), -1000)
    array[0] = -900
    (warning,) = check_volume(kit.volume(array), CT)
    assert "highest value is -900 HU" in warning


def test_a_ct_for_an_mr_model_gives_a_warning(kit: Any) -> None:
    (warning,) = check_volume(kit.volume(ct_array()), MR)
    assert "expects MR" in warning
    assert "50%" in warning


@pytest.mark.parametrize(("value", "count"), [(np.nan, 1), (np.nan, 5), (np.inf, 1), (-np.inf, 2)])
def test_voxels_that_are_no_numbers_are_counted(kit: Any, value: float, count: int) -> None:
    array = ct_array(np.float32)
    array.ravel()[: count * 40 : 40] = value
    with pytest.raises(InvalidInputError, match=f"{count} voxels are NaN or infinite"):
        check_volume(kit.volume(array), CT)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4, 5, 3)), r"shape \(3, 4, 5, 3\): it is 4D, or a colour or vector image"),
        (np.zeros((4, 5)), r"shape \(4, 5\), but a 3D volume"),
        (np.zeros((0, 4, 5)), r"empty \(shape \(0, 4, 5\)\)"),
        (np.zeros((3, 4, 5)), "All voxels of the volume are 0. There is nothing to segment"),
        (np.full((3, 4, 5), -1000, dtype=np.int16), "All voxels of the volume are -1000"),
        (np.zeros((3, 4, 5), dtype=complex), "type complex128, but integers or floats"),
        (np.zeros((3, 4, 5), dtype=bool), "type bool, but integers or floats"),
        (np.zeros((3, 4, 5), dtype="U1"), "but integers or floats"),
    ],
)
def test_each_unusable_array_has_its_own_message(kit: Any, array: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_volume(kit.volume(array), CT)


def test_an_unusable_geometry_is_found_too(kit: Any) -> None:
    with pytest.raises(InvalidInputError, match="spacing"):
        check_volume(kit.volume(ct_array(), (0.0, 1.0, 1.0)), CT)
    with pytest.raises(InvalidInputError, match="not orthonormal"):
        check_volume(kit.volume(ct_array(), direction=np.eye(3) + 0.1), CT)
