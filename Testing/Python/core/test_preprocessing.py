"""From volumes to network input: intensities, crop, slices, resampling and tiles, with numbers that fit on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udfa.config import PreprocessingConfig
from udfa.preprocessing import (
    IntensityRule,
    PlaneGrid,
    gaussian_window,
    intensity_rule,
    network_slices,
    plane_grid,
    resize_planes,
    tile_side,
    tile_starts,
)

PLAIN_CT = PreprocessingConfig(
    window_hu=(0.0, 100.0), mean=0.5, std=0.25, in_plane_spacing_mm=None, crop_to_body=False, tile_size=64
)


def test_ct_is_windowed_clipped_and_normalised() -> None:
    rule = intensity_rule(np.zeros((1, 1, 1)), PLAIN_CT)
    out = rule.apply(np.array([-1000, 0, 25, 50, 100, 3000], dtype=np.int16))
    torch.testing.assert_close(out, torch.tensor([-2.0, -2.0, -1.0, 0.0, 2.0, 2.0]))


def test_mr_is_clipped_at_its_percentiles_and_becomes_mean_0_and_deviation_1() -> None:
    config = PreprocessingConfig(modality="MR", percentiles=(10.0, 90.0))
    array = np.arange(101, dtype=np.float32).reshape(1, 1, 101)
    rule = intensity_rule(array, config)
    assert (rule.lower, rule.upper) == (10.0, 90.0)
    out = rule.apply(array)
    assert float(out.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(out.std(correction=0)) == pytest.approx(1.0, abs=1e-5)


def test_mr_intensities_do_not_depend_on_the_scanners_scale() -> None:
    config = PreprocessingConfig(modality="MR")
    array = np.random.default_rng(0).gamma(2.0, 100.0, size=(4, 30, 30)).astype(np.float32)
    a, b = intensity_rule(array, config).apply(array), intensity_rule(array * 7, config).apply(array * 7)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_statistics_of_a_large_mr_volume_come_from_a_regular_subset() -> None:
    config = PreprocessingConfig(modality="MR", percentiles=(0.0, 100.0))
    array = np.broadcast_to(np.float32([[[0.0, 1.0]]]).repeat(150, 2), (150, 150, 300)).astype(np.float32)
    rule = intensity_rule(array, config)
    assert (rule.lower, rule.upper) == (0.0, 1.0)
    assert rule.shift == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", ">i2", "float16", "float64"])
def test_every_integer_and_float_type_is_understood(dtype: str) -> None:
    out = intensity_rule(np.zeros((1, 1, 1)), PLAIN_CT).apply(np.array([25, 50], dtype=dtype))
    torch.testing.assert_close(out, torch.tensor([-1.0, 0.0]))


@pytest.mark.parametrize(
    ("spacing_mm", "finest_mm", "expected"),
    [
        ((8.0, 0.5, 0.75), None, (100, 120)),
        ((8.0, 0.5, 0.75), 1.0, (50, 90)),
        ((8.0, 1.0, 1.25), 1.0, (100, 120)),
        ((8.0, 0.9995, 2.0), 1.0, (100, 120)),
    ],
)
def test_the_native_grid_is_kept_unless_its_pixels_are_finer_than_the_finest(
    spacing_mm: tuple[float, float, float], finest_mm: float | None, expected: tuple[int, int]
) -> None:
    config = PreprocessingConfig(modality="MR", in_plane_spacing_mm=None, finest_spacing_mm=finest_mm)
    assert plane_grid(np.zeros((3, 100, 120)), spacing_mm, config).network_shape == expected


def test_the_crop_holds_the_body_and_a_margin_of_4_pixels() -> None:
    array = np.full((3, 100, 120), -1000, dtype=np.int16)
    array[:, 30:60, 40:90] = 20
    grid = plane_grid(array, (5.0, 1.0, 1.0), PreprocessingConfig(in_plane_spacing_mm=None))
    assert grid == PlaneGrid((100, 120), (26, 64, 36, 94), (38, 58))


def test_the_crop_ends_at_the_border_of_the_slice() -> None:
    array = np.full((1, 40, 40), -1000, dtype=np.int16)
    array[:, 2:40, 0:39] = 20
    assert plane_grid(array, (5.0, 1.0, 1.0), PreprocessingConfig(in_plane_spacing_mm=None)).crop == (0, 40, 0, 40)


def test_a_bright_pixel_in_the_air_does_not_widen_the_crop() -> None:
    array = np.full((1, 200, 200), -1000, dtype=np.int16)
    array[:, 50:150, 50:150] = 20
    array[0, 5, 5] = 3000
    assert plane_grid(array, (5.0, 1.0, 1.0), PreprocessingConfig(in_plane_spacing_mm=None)).crop == (46, 154, 46, 154)


def test_without_a_body_the_whole_slice_is_kept() -> None:
    array = np.full((2, 40, 50), -1000, dtype=np.int16)
    assert plane_grid(array, (5.0, 1.0, 1.0), PreprocessingConfig(in_plane_spacing_mm=None)).crop == (0, 40, 0, 50)


def test_mr_is_never_cropped() -> None:
    array = np.full((1, 40, 50), -1000, dtype=np.int16)
    array[:, 10:20, 10:20] = 20
    config = PreprocessingConfig(modality="MR", in_plane_spacing_mm=None)
    assert plane_grid(array, (5.0, 1.0, 1.0), config).crop == (0, 40, 0, 50)


def test_the_network_grid_follows_the_in_plane_spacing() -> None:
    config = PreprocessingConfig(in_plane_spacing_mm=2.0, crop_to_body=False)
    assert plane_grid(np.zeros((3, 100, 60)), (9.0, 1.0, 0.5), config).network_shape == (50, 15)
    assert plane_grid(np.zeros((3, 1, 1)), (9.0, 0.1, 0.1), config).network_shape == (1, 1)


def constant_slices(depth: int) -> np.ndarray:
    """Slice z is constant 10 z HU, which the rule of PLAIN_CT maps to 0.4 z - 2."""
    return np.broadcast_to(10.0 * np.arange(depth)[:, None, None], (depth, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("start", "stop", "in_slices", "expected"),
    [
        (0, 5, 3, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]),
        (2, 4, 3, [[1, 2, 3], [2, 3, 4]]),
        (4, 5, 3, [[3, 4, 4]]),
        (1, 3, 1, [[1, 1, 1], [2, 2, 2]]),
    ],
)
def test_neighbouring_slices_are_the_channels(start: int, stop: int, in_slices: int, expected: list[list[int]]) -> None:
    array = constant_slices(5)
    grid = PlaneGrid((4, 4), (0, 4, 0, 4), (4, 4))
    out = network_slices(array, start, stop, grid, intensity_rule(array, PLAIN_CT), in_slices)
    assert out.shape == (stop - start, 3, 4, 4)
    torch.testing.assert_close((out[:, :, 0, 0] + 2) / 0.4, torch.tensor(expected, dtype=torch.float32))


def test_a_single_slice_is_its_own_neighbour() -> None:
    grid = PlaneGrid((4, 4), (0, 4, 0, 4), (4, 4))
    out = network_slices(constant_slices(1), 0, 1, grid, intensity_rule(np.zeros((1, 1, 1)), PLAIN_CT), 3)
    torch.testing.assert_close(out, torch.full((1, 3, 4, 4), -2.0))


@pytest.mark.parametrize(("shape", "target"), [((64, 48), (32, 24)), ((50, 50), (31, 77)), ((33, 65), (64, 64))])
def test_resampling_keeps_places(shape: tuple[int, int], target: tuple[int, int]) -> None:
    """The centroid of a blob, in units of the slice's sides, moves by less than a tenth of a native pixel."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    blob = np.exp(-((rows - 0.6 * shape[0]) ** 2 + (columns - 0.35 * shape[1]) ** 2) / (2 * 5.0**2))

    def centroid(plane: np.ndarray) -> np.ndarray:
        grid = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
        return np.array([(g * plane).sum() / plane.sum() for g in grid]) / plane.shape

    resized = resize_planes(torch.from_numpy(blob[None]).float(), target)[0].numpy()
    assert resized.shape == target
    np.testing.assert_allclose(centroid(resized) * shape, centroid(blob) * shape, atol=0.1)


def test_resampling_to_the_same_size_changes_nothing() -> None:
    planes = torch.randn(2, 5, 7)
    assert torch.equal(resize_planes(planes, (5, 7)), planes)


@pytest.mark.parametrize(
    ("shape", "tile_size", "expected"),
    [
        ((161, 20), 256, 192),
        ((20, 192), 256, 192),
        ((300, 9), 256, 256),
        ((160, 9), 256, 160),
        ((50, 60), 256, 160),
        ((50, 60), 64, 64),
    ],
)
def test_tiles_are_just_large_enough_multiples_of_32_and_not_smaller_than_the_networks_know(
    shape: tuple[int, int], tile_size: int, expected: int
) -> None:
    assert tile_side(shape, tile_size) == expected


@given(length=st.integers(1, 1000), tile=st.sampled_from([32, 64, 256]), overlap=st.floats(0, 0.9))
def test_tiles_cover_every_pixel_with_the_overlap_asked_for(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    if length <= tile:
        assert starts == [0]
        return
    assert starts[-1] + tile == length
    strides = np.diff(starts)
    assert (strides > 0).all()
    assert strides.max() <= max(1, int(tile * (1 - overlap)))


def test_tile_starts_by_hand() -> None:
    assert tile_starts(100, 64, 0.5) == [0, 18, 36]
    assert tile_starts(128, 64, 0.0) == [0, 64]


def test_the_blending_window_is_symmetric_positive_and_1_in_the_centre() -> None:
    window = gaussian_window(64)
    assert float(window.max()) == 1.0
    assert float(window.min()) == pytest.approx(1e-6)
    assert float(window[0].max()) == pytest.approx(1e-3)
    assert torch.equal(window, window.flip(0))
    assert torch.equal(window, window.T)


def test_the_resampled_network_input_shows_the_crop_only(kit: Any) -> None:
    array = np.zeros((1, 8, 8), dtype=np.int16)
    array[0, 2:6, 2:6] = 100
    grid = PlaneGrid((8, 8), (2, 6, 2, 6), (2, 2))
    out = network_slices(array, 0, 1, grid, intensity_rule(array, PLAIN_CT), 1)
    torch.testing.assert_close(out, torch.full((1, 3, 2, 2), 2.0))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_a_flipped_view_of_a_single_slice_is_accepted(dtype: type) -> None:
    volume = np.arange(2 * 3 * 4, dtype=dtype).reshape(2, 3, 4)[::-1]
    mapped = IntensityRule(0.0, 23.0, 0.0, 1.0).apply(volume[1:2])
    np.testing.assert_array_equal(mapped.numpy(), np.arange(12.0).reshape(1, 3, 4))
