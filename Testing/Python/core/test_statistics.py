"""Volumes and intensities per label."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

import udfa.statistics
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import describe
from udfa.statistics import label_statistics, slab_slices, voxel_counts, write_csv

LABELS = {1: describe("spleen"), 2: describe("liver"), 5: describe("aorta")}


def small_case() -> tuple[np.ndarray, Volume]:
    """Four slices of 2 x 2: spleen in four voxels of 10, 20, 30, 40; liver in two voxels of 100."""
    labelmap = np.zeros((4, 2, 2), np.uint8)
    array = np.full((4, 2, 2), -1000, np.int16)
    for z, intensity in enumerate((10, 20, 30, 40)):
        labelmap[z, 0, 0], array[z, 0, 0] = 1, intensity
    labelmap[1:3, 1, 1], array[1:3, 1, 1] = 2, 100
    return labelmap, Volume(array, (5.0, 2.0, 1.0), np.eye(3))


def test_voxels_volume_mean_and_deviation_are_those_computed_by_hand() -> None:
    spleen, liver, _ = label_statistics(*small_case(), LABELS)
    assert (spleen.voxels, spleen.volume_ml, spleen.mean_intensity) == (4, pytest.approx(0.04), 25.0)
    assert spleen.sd_intensity == pytest.approx(math.sqrt(125))
    assert (liver.voxels, liver.volume_ml, liver.mean_intensity, liver.sd_intensity) == (2, 0.02, 100.0, 0.0)


def test_a_label_without_voxels_has_volume_zero_and_no_mean() -> None:
    aorta = label_statistics(*small_case(), LABELS)[2]
    assert (aorta.name, aorta.voxels, aorta.volume_ml) == ("aorta", 0, 0.0)
    assert math.isnan(aorta.mean_intensity)
    assert math.isnan(aorta.sd_intensity)


@pytest.mark.parametrize("voxels_per_slab", [1, 4, 8, 1000])
def test_the_result_does_not_depend_on_how_the_volume_is_cut(
    monkeypatch: pytest.MonkeyPatch, voxels_per_slab: int
) -> None:
    monkeypatch.setattr(udfa.statistics, "SLAB_VOXELS", voxels_per_slab)
    spleen = label_statistics(*small_case(), LABELS)[0]
    assert (spleen.voxels, spleen.mean_intensity) == (4, 25.0)
    assert spleen.sd_intensity == pytest.approx(math.sqrt(125))


def test_the_deviation_survives_a_large_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udfa.statistics, "SLAB_VOXELS", 4)
    array = np.full((4, 2, 2), 1e9)
    array[:, 0, :] += 1.0
    row = label_statistics(np.ones((4, 2, 2), np.uint8), Volume(array, (1.0, 1.0, 1.0), np.eye(3)), LABELS)[0]
    assert row.sd_intensity == pytest.approx(0.5, rel=1e-6)


def test_slabs_cover_every_slice_once() -> None:
    slabs = slab_slices((7, 2048, 1024))
    assert [z for slab in slabs for z in range(7)[slab]] == list(range(7))
    assert [slab.stop - slab.start for slab in slabs] == [2, 2, 2, 1]


def test_voxels_of_every_value_are_counted() -> None:
    counts = voxel_counts(small_case()[0])
    assert (counts[0], counts[1], counts[2], counts.sum()) == (10, 4, 2, 16)


def test_different_grids_and_types_are_refused() -> None:
    labelmap, image = small_case()
    with pytest.raises(InvalidInputError, match=r"\(3, 2, 2\).*\(4, 2, 2\)"):
        label_statistics(labelmap[:3], image, LABELS)
    with pytest.raises(InvalidInputError, match=r"int64.*uint8"):
        label_statistics(labelmap.astype(np.int64), image, LABELS)


def test_the_csv_has_a_line_per_label_and_blanks_for_empty_ones(tmp_path: Path) -> None:
    write_csv(tmp_path / "volumes.csv", label_statistics(*small_case(), LABELS))
    with (tmp_path / "volumes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "label": "spleen",
        "title": "Spleen",
        "value": "1",
        "voxels": "4",
        "volume_ml": "0.040",
        "mean_intensity": "25.000",
        "sd_intensity": "11.180",
    }
    assert (rows[2]["label"], rows[2]["volume_ml"], rows[2]["mean_intensity"]) == ("aorta", "0.000", "")
