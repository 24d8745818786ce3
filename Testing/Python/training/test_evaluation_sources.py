"""Predictions from networks and folders: labels matched by name, grids that must agree, and the slice worth showing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.volume_io import read_volume, write_array
from udfa_training.dataset import CaseEntry, PreparedData, open_prepared
from udfa_training.evaluation.label_matching import match_labels
from udfa_training.evaluation.run import Rules, evaluate, label_values, segmented, worst_slice
from udfa_training.evaluation.sources import FolderSource, PredictionSource, check_same_grid


class Given:
    """A source that gives labelmaps of its own making."""

    def __init__(self, labels: tuple[str, ...], change: Any = None, name: str = "given") -> None:
        self.name = name
        self.values = {label: value for value, label in enumerate(labels, start=1)}
        self.slice_axis = "axial"
        self.change = change or (lambda labelmap: labelmap)

    def predict(self, case: CaseEntry, image: Volume, progress: Optional[Any] = None) -> NDArray[np.generic]:
        return np.asarray(self.change(read_volume(case.label).array))

    def facts(self) -> dict[str, Any]:
        return {"kind": "given"}


@pytest.fixture
def data(prepared: Path) -> PreparedData:
    return open_prepared(prepared)


def sources(*labels: tuple[str, ...]) -> list[PredictionSource]:
    return [Given(names, name=f"model{number}") for number, names in enumerate(labels, start=1)]


def test_labels_are_matched_by_name_in_the_order_of_the_data() -> None:
    table = match_labels(("liver", "spleen"), sources(("spleen", "liver")))
    assert (table.names, table.reference_values, table.left_out) == (("liver", "spleen"), (1, 2), ())


def test_labels_that_one_side_lacks_are_left_out_and_named() -> None:
    table = match_labels(("liver", "spleen", "kidney", "aorta"), sources(("spleen", "heart"), ("aorta", "spleen")))
    assert (table.names, table.reference_values) == (("spleen",), (2,))
    assert table.left_out == (
        "not in model1, model2: liver, kidney",
        "not in model1: aorta",
        "not in the data: heart",
    )


def test_chosen_labels_keep_the_users_order() -> None:
    table = match_labels(("liver", "spleen", "aorta"), sources(("liver", "spleen", "aorta")), ["aorta", "liver"])
    assert (table.names, table.reference_values) == (("aorta", "liver"), (3, 1))
    assert table.left_out == ("not chosen: spleen",)


@pytest.mark.parametrize(
    ("preferred", "names"),
    [(("aorta", "liver"), ("aorta", "liver")), (("aorta", "heart"), ("liver", "spleen", "aorta"))],
    ids=["all there", "one missing"],
)
def test_preferred_labels_are_taken_when_all_are_there(preferred: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert match_labels(("liver", "spleen", "aorta"), sources(names), None, preferred).names == names


@pytest.mark.parametrize(
    ("labels", "wanted", "complaint"),
    [
        (("heart",), None, "share no label. The data has liver, spleen; model1 has heart"),
        (("liver",), ["spleen"], "No label 'spleen' to compare. There are: liver"),
        (("liver",), ["liver", "liver"], "named twice"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(
    labels: tuple[str, ...], wanted: Optional[list[str]], complaint: str
) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        match_labels(("liver", "spleen"), sources(labels), wanted)


def test_a_perfect_prediction_in_another_order_of_labels_scores_one(data: PreparedData) -> None:
    """The source calls the data's 1 (liver) 3 and the data's 3 (gallbladder) 1."""
    swap = np.array([0, 3, 2, 1], dtype=np.uint8)
    source = Given(("gallbladder", "spleen", "liver"), lambda labelmap: swap[labelmap])
    result = evaluate(source, data.cases, match_labels(data.labels, [source]), Rules())
    assert np.array_equal(result.table("dice"), np.ones((3, 3)))
    assert np.array_equal(result.table("hd95"), np.zeros((3, 3)))


def test_an_organ_the_source_misses_does_not_spoil_the_others(data: PreparedData) -> None:
    source = Given(data.labels, lambda labelmap: np.where(labelmap == 2, 0, labelmap))
    result = evaluate(source, data.cases[:1], match_labels(data.labels, [source]), Rules())
    assert result.table("dice").tolist() == [[1.0, 0.0, 1.0]]
    assert result.table("hd95").tolist() == [[0.0, np.inf, 0.0]]
    measured = result.cases[0].organs["spleen"]
    assert measured.predicted_ml == 0.0
    # Voxels of 4 x 4 x 5 mm.
    assert measured.reference_ml == pytest.approx(measured.reference_voxels * 0.08)


def test_the_worst_cases_come_first(data: PreparedData) -> None:
    grades = iter([0.5, 0.9, 0.1])

    def spoil(labelmap: NDArray[np.uint8]) -> NDArray[np.uint8]:
        keep = np.random.default_rng(0).random(labelmap.shape) < next(grades)
        return np.where(keep, labelmap, 0).astype(np.uint8)

    source = Given(data.labels, spoil)
    result = evaluate(source, data.cases, match_labels(data.labels, [source]), Rules())
    assert [case.name for case in result.worst(2)] == ["c", "a"]


def test_the_slice_with_most_wrong_voxels_is_shown_in_canonical_orientation() -> None:
    """Axis 0 runs downwards here, so array slice 1 of 4 is slice 2 from below; rows and columns stay as they are."""
    direction = np.eye(3)[:, ::-1].copy()
    direction[:, 0] *= -1
    volume = Volume(np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2), (5.0, 2.0, 1.0), direction)
    reference, prediction = np.zeros((4, 3, 2), np.uint8), np.zeros((4, 3, 2), np.uint8)
    reference[1, 0], prediction[3, 0, 0] = 1, 1
    view = worst_slice(volume, prediction, reference, "axial")
    assert (view.index, view.depth, view.spacing) == (2, 4, (2.0, 1.0))
    assert np.array_equal(view.image, volume.array[1])
    assert view.reference.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert not view.prediction.any()


def test_without_any_wrong_voxel_the_fullest_slice_is_shown() -> None:
    volume = Volume(np.zeros((3, 2, 2), np.float32), (1.0, 1.0, 1.0), np.eye(3)[:, ::-1].copy())
    labelmap = np.zeros((3, 2, 2), np.uint8)
    labelmap[0, 0, 0] = 1
    labelmap[2] = 1
    assert worst_slice(volume, labelmap, labelmap, "axial").index == 2


def folder_of_references(data: PreparedData, folder: Path) -> Path:
    folder.mkdir()
    for case in data.cases:
        volume = read_volume(case.label)
        write_array(folder / f"{case.name}.nii.gz", volume.array, volume)
    return folder


def test_labelmaps_of_a_folder_are_taken_with_the_labels_of_the_data(data: PreparedData, tmp_path: Path) -> None:
    folder = folder_of_references(data, tmp_path / "nnunet")
    source = FolderSource(folder, data.labels, data.cases)
    assert source.name == "nnunet"
    result = evaluate(source, data.cases, match_labels(data.labels, [source]), Rules())
    assert np.array_equal(result.table("dice"), np.ones((3, 3)))


def test_a_dataset_json_names_the_labels_of_a_folder(data: PreparedData, tmp_path: Path) -> None:
    folder = folder_of_references(data, tmp_path / "nnunet")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "Spleen": 1, "liver": 2}}))
    source = FolderSource(folder, data.labels, data.cases)
    assert dict(source.values) == {"spleen": 1, "liver": 2}
    result = evaluate(source, data.cases, match_labels(data.labels, [source]), Rules())
    assert not result.table("dice").any()


def test_regions_instead_of_labels_are_refused(data: PreparedData, tmp_path: Path) -> None:
    folder = folder_of_references(data, tmp_path / "nnunet")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2]}}))
    with pytest.raises(InvalidInputError, match="regions of several labels"):
        FolderSource(folder, data.labels, data.cases)


def test_a_damaged_dataset_json_beside_predictions_is_named(data: PreparedData, tmp_path: Path) -> None:
    folder = folder_of_references(data, tmp_path / "nnunet")
    (folder / "dataset.json").write_text("{broken")
    with pytest.raises(InvalidInputError, match="dataset.json is no valid JSON"):
        FolderSource(folder, data.labels, data.cases)


def test_all_missing_labelmaps_are_named_at_once(data: PreparedData, tmp_path: Path) -> None:
    folder = folder_of_references(data, tmp_path / "partly")
    (folder / "a.nii.gz").unlink()
    (folder / "c.nii.gz").unlink()
    with pytest.raises(InvalidInputError, match="lacks 2 of 3 labelmaps: a, c"):
        FolderSource(folder, data.labels, data.cases)


def test_a_labelmap_on_another_grid_is_refused(data: PreparedData, tmp_path: Path) -> None:
    folder = folder_of_references(data, tmp_path / "shifted")
    path = folder / "a.nii.gz"
    image = sitk.ReadImage(str(path))
    image.SetOrigin((0.0, 0.0, 7.0))
    sitk.WriteImage(image, str(path))
    source = FolderSource(folder, data.labels, data.cases)
    with pytest.raises(InvalidInputError, match=r"a.nii.gz has origin_mm \[0.0, 0.0, 7.0\], but the image of a has"):
        evaluate(source, data.cases, match_labels(data.labels, [source]), Rules())


def test_rounding_in_a_header_is_no_other_grid() -> None:
    volume = Volume(np.zeros((2, 3, 4)), (5.0, 1.0, 1.0), np.eye(3)[:, ::-1].copy(), (1.0, 2.0, 3.0))
    check_same_grid(replace(volume, origin_mm=(1.001, 2.0, 3.0)), volume, "a", "b")
    with pytest.raises(InvalidInputError, match=r"a has shape \(2, 3, 5\), but b has \(2, 3, 4\)"):
        check_same_grid(replace(volume, array=np.zeros((2, 3, 5))), volume, "a", "b")


def test_probabilities_are_no_labelmap() -> None:
    assert label_values(np.array([0.0, 2.0]), "x").tolist() == [0, 2]
    with pytest.raises(InvalidInputError, match="x is no labelmap"):
        label_values(np.array([0.0, 0.5]), "x")


def test_a_prediction_of_another_shape_is_refused(data: PreparedData) -> None:
    source = Given(data.labels, lambda labelmap: labelmap[:-1])
    with pytest.raises(InvalidInputError, match=r"given gives shape \(5, 64, 64\), the reference has \(6, 64, 64\)"):
        list(segmented(source, data.cases))


def test_a_case_that_cannot_be_segmented_is_named(data: PreparedData) -> None:
    def refused(labelmap: Any) -> Any:
        raise InvalidInputError("All voxels of the volume are 0.")

    with pytest.raises(InvalidInputError, match=r"^a: All voxels of the volume are 0\.$"):
        list(segmented(Given(data.labels, refused), data.cases))
