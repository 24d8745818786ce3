"""Bringing data sets into the canonical form: everything is checked before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from udfa.errors import InvalidInputError
from udfa_training.dataset import open_prepared
from udfa_training.prepare import find_pairs, prepare


def change_label(source: Path, name: str, value: int) -> None:
    """Set voxel (0, 0, 0) of a label file."""
    path = str(source / f"{name}_label.nii.gz")
    label = sitk.ReadImage(path)
    label[0, 0, 0] = value
    sitk.WriteImage(label, path)


def test_the_prepared_folder_has_nnunets_layout(prepared: Path) -> None:
    files = sorted(path.relative_to(prepared).as_posix() for path in prepared.rglob("*.*"))
    images = [f"imagesTr/{name}_0000.nii.gz" for name in "abc"]
    assert files == ["dataset.json", *images, *(f"labelsTr/{name}.nii.gz" for name in "abc"), "manifest.json"]
    description = json.loads((prepared / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "liver": 1, "spleen": 2, "gallbladder": 3}
    assert description["numTraining"] == 3


def test_voxels_are_copied_unchanged(source: Path, prepared: Path) -> None:
    assert (prepared / "imagesTr" / "b_0000.nii.gz").read_bytes() == (source / "b_image.nii.gz").read_bytes()


def test_the_manifest_keeps_split_licence_and_labels(prepared: Path) -> None:
    data = open_prepared(prepared)
    assert [(case.name, case.split) for case in data.cases] == [("a", "train"), ("b", "train"), ("c", "val")]
    assert data.licence == "made for tests, no terms"
    assert data.labels == ("liver", "spleen", "gallbladder")


def test_all_broken_pairs_are_named_at_once_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    change_label(source, "a", 9)
    shifted = sitk.ReadImage(str(source / "b_label.nii.gz"))
    shifted.SetOrigin((0, 0, 7))
    sitk.WriteImage(shifted, str(source / "b_label.nii.gz"))
    cut = sitk.ReadImage(str(source / "c_label.nii.gz"))[:, :, :5]
    sitk.WriteImage(cut, str(source / "c_label.nii.gz"))
    with pytest.raises(InvalidInputError, match="3 broken cases, nothing was written") as raised:
        prepare(find_pairs(source), tmp_path / "out")
    assert [line[:2] for line in str(raised.value).splitlines()[1:]] == ["a:", "b:", "c:"]
    for complaint in ("label values [9]", "different places", "(6, 64, 64), label (5, 64, 64)"):
        assert complaint in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_truncated_image_is_named(source: Path, tmp_path: Path) -> None:
    path = source / "b_image.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidInputError, match="1 broken cases(.|\n)*b: .*b_image.nii.gz"):
        prepare(find_pairs(source), tmp_path / "out")


def test_an_interrupted_copy_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = find_pairs(source)

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("udfa_training.prepare.shutil.copyfile", full_disk)
    with pytest.raises(OSError, match="No space"):
        prepare(data, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_an_existing_folder_is_never_overwritten(prepared: Path, source: Path) -> None:
    before = (prepared / "manifest.json").read_bytes()
    with pytest.raises(InvalidInputError, match="exists already"):
        prepare(find_pairs(source), prepared)
    assert (prepared / "manifest.json").read_bytes() == before


def test_an_image_without_its_label_is_named(source: Path) -> None:
    (source / "b_label.nii.gz").unlink()
    with pytest.raises(InvalidInputError, match="without a partner: .'b'"):
        find_pairs(source)


def test_an_unknown_validation_patient_is_refused_with_those_known(source: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\['d'\] are not in .*Known: \['a', 'b', 'c'\]"):
        find_pairs(source, ["d"])


def test_all_frames_of_a_patient_stay_on_one_side(source: Path) -> None:
    for kind in ("image", "label"):
        for old, new in (("a", "p1_frame01"), ("b", "p1_frame12"), ("c", "p2_frame01")):
            (source / f"{old}_{kind}.nii.gz").rename(source / f"{new}_{kind}.nii.gz")
    splits = {case.name: case.split for case in find_pairs(source, ["p1"]).cases}
    assert splits == {"p1_frame01": "val", "p1_frame12": "val", "p2_frame01": "train"}


def test_a_patient_in_train_and_in_val_is_refused(source: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("val", "c")):
        (source / part).mkdir(exist_ok=True)
        for kind in ("image", "label"):
            (source / f"{name}_{kind}.nii.gz").rename(source / part / f"{name.replace('c', 'a_2')}_{kind}.nii.gz")
    with pytest.raises(InvalidInputError, match=r"\['a'\] are both in train/ and in val/"):
        find_pairs(source)


def test_a_prepared_folder_with_a_lost_file_names_it(prepared: Path) -> None:
    (prepared / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(InvalidInputError, match="1 files of the manifest are missing: .*b.nii.gz"):
        open_prepared(prepared)


def test_a_folder_that_was_not_prepared_is_refused_with_the_remedy(source: Path) -> None:
    (source / "manifest.json").unlink()
    with pytest.raises(InvalidInputError, match="udfa-train prepare"):
        open_prepared(source)


def test_made_labels_are_what_the_other_tests_assume(prepared: Path) -> None:
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(prepared / "labelsTr" / "a.nii.gz")))
    assert [np.unique(plane).tolist() for plane in label] == [[0, 1, 2]] * 3 + [[0, 1, 2, 3]] + [[0, 1, 2]] * 2
