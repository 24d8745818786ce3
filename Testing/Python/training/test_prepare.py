"""Bringing data sets into the canonical form: everything is checked before anything is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from fakes.pairs import find_pairs
from udfa.errors import InvalidInputError
from udfa_training.dataset import open_prepared
from udfa_training.prepare import fitting_type, prepare, select_labels
from udfa_training.readers import read_source

LABELS = ("liver", "spleen", "gallbladder")


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


def test_cases_for_testing_lie_where_nnunet_does_not_train_on_them(source: Path, tmp_path: Path) -> None:
    found = find_pairs(source)
    cases = [replace(case, split="test") if case.name == "c" else case for case in found.cases]
    folder = prepare(replace(found, cases=tuple(cases)), tmp_path / "prepared")
    assert sorted(path.name for path in folder.glob("images*/*")) == [f"{name}_0000.nii.gz" for name in "abc"]
    assert sorted(path.parent.name for path in folder.glob("*/c*")) == ["imagesTs", "labelsTs"]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
    assert [case.name for case in open_prepared(folder).split("test")] == ["c"]
    again = prepare(read_source(folder, "nnunet"), tmp_path / "again")
    assert (again / "manifest.json").read_text() == (folder / "manifest.json").read_text()


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
    with pytest.raises(InvalidInputError, match="3 problems, nothing was written") as raised:
        prepare(find_pairs(source), tmp_path / "out")
    assert [line[:2] for line in str(raised.value).splitlines()[1:]] == ["a:", "b:", "c:"]
    for complaint in ("label values [9] have no name", "different places", "(6, 64, 64), label (5, 64, 64)"):
        assert complaint in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_truncated_image_is_named(source: Path, tmp_path: Path) -> None:
    path = source / "b_image.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidInputError, match="1 problems(.|\n)*b: .*b_image.nii.gz"):
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


def test_images_and_labels_without_partners_are_named_together_with_broken_cases(source: Path, tmp_path: Path) -> None:
    (source / "b_label.nii.gz").unlink()
    (source / "c_image.nii.gz").unlink()
    change_label(source, "a", 9)
    with pytest.raises(InvalidInputError, match="3 problems, nothing was written") as raised:
        prepare(find_pairs(source), tmp_path / "out")
    for complaint in ("b has no _label.nii.gz", "c has no _image.nii.gz", "a: label values [9]"):
        assert complaint in str(raised.value)


def test_an_unknown_validation_patient_is_refused_with_those_known(source: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\['d'\] are not in .*Known: \['a', 'b', 'c'\]\. .*--patient-pattern"):
        find_pairs(source, ["d"])


def test_all_frames_of_a_patient_stay_on_one_side(source: Path) -> None:
    for kind in ("image", "label"):
        for old, new in (("a", "p1_frame01"), ("b", "p1_frame12"), ("c", "p2_frame01")):
            (source / f"{old}_{kind}.nii.gz").rename(source / f"{new}_{kind}.nii.gz")
    splits = {case.name: case.split for case in find_pairs(source, ["p1"]).cases}
    assert splits == {"p1_frame01": "val", "p1_frame12": "val", "p2_frame01": "train"}


def test_a_patient_in_train_and_in_val_is_refused(source: Path, tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("val", "c")):
        (source / part).mkdir(exist_ok=True)
        for kind in ("image", "label"):
            (source / f"{name}_{kind}.nii.gz").rename(source / part / f"{name.replace('c', 'a_2')}_{kind}.nii.gz")
    with pytest.raises(InvalidInputError, match="Patient a is in train and in val"):
        prepare(find_pairs(source), tmp_path / "out")


def test_a_prepared_folder_with_a_lost_file_names_it(prepared: Path) -> None:
    (prepared / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(InvalidInputError, match="1 files of the manifest are missing: .*b.nii.gz"):
        open_prepared(prepared)


def test_a_damaged_manifest_is_named(prepared: Path) -> None:
    (prepared / "manifest.json").write_text('{"name": ')
    with pytest.raises(InvalidInputError, match="manifest.json is no valid JSON"):
        open_prepared(prepared)


def test_a_folder_that_was_not_prepared_is_refused_with_the_remedy(source: Path) -> None:
    (source / "manifest.json").unlink()
    with pytest.raises(InvalidInputError, match="udfa-train prepare"):
        open_prepared(source)


def test_made_labels_are_what_the_other_tests_assume(prepared: Path) -> None:
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(prepared / "labelsTr" / "a.nii.gz")))
    assert [np.unique(plane).tolist() for plane in label] == [[0, 1, 2]] * 3 + [[0, 1, 2, 3]] + [[0, 1, 2]] * 2


def test_the_manifest_has_spacing_shape_voxel_counts_and_checksums(prepared: Path) -> None:
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert (manifest["kind"], manifest["modality"], manifest["notes"]) == ("pairs", "CT", [])
    entry = manifest["cases"][0]
    assert (entry["shape"], entry["spacing_mm"], entry["spacing_known"]) == ([6, 64, 64], [5.0, 4.0, 4.0], True)
    image, label = (prepared / entry[kind] for kind in ("image", "label"))
    assert entry["image_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert entry["label_sha256"] == hashlib.sha256(label.read_bytes()).hexdigest()
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(label)))
    assert entry["voxels"] == {name: int((array == n).sum()) for n, name in enumerate(LABELS, start=1)}
    assert min(entry["voxels"].values()) > 0


def test_a_manifest_without_spacing_known_is_read_as_known(prepared: Path) -> None:
    manifest = json.loads((prepared / "manifest.json").read_text())
    for entry in manifest["cases"]:
        del entry["spacing_known"]
    (prepared / "manifest.json").write_text(json.dumps(manifest))
    assert [(case.spacing_known, case.fold) for case in open_prepared(prepared).cases] == [(True, None)] * 3


@pytest.mark.parametrize("said", [{"spacing_known": False}, {"spacing": "NOT KNOWN: header says 1 mm"}])
def test_unknown_spacing_is_null_in_the_manifest_and_said_in_its_notes(
    source: Path, tmp_path: Path, said: dict[str, object]
) -> None:
    facts = json.loads((source / "manifest.json").read_text())
    (source / "manifest.json").write_text(json.dumps(facts | said))
    output = prepare(find_pairs(source), tmp_path / "out")
    manifest = json.loads((output / "manifest.json").read_text())
    assert [entry["spacing_mm"] for entry in manifest["cases"]] == [None] * 3
    assert "voxels only" in manifest["notes"][0]
    assert not any(case.spacing_known for case in open_prepared(output).cases)


def test_labels_are_selected_and_reordered_by_name_and_the_others_become_background(
    source: Path, tmp_path: Path
) -> None:
    data = select_labels(find_pairs(source), ["Gall bladder", "liver"])
    output = prepare(data, tmp_path / "out")
    assert open_prepared(output).labels == ("gallbladder", "liver")
    old = sitk.GetArrayFromImage(sitk.ReadImage(str(source / "a_label.nii.gz")))
    new = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "labelsTr" / "a.nii.gz")))
    assert [np.unique(new[old == value]).tolist() for value in (0, 1, 2, 3)] == [[0], [2], [0], [1]]
    image = output / "imagesTr" / "a_0000.nii.gz"
    assert image.read_bytes() == (source / "a_image.nii.gz").read_bytes()


def test_label_names_with_values_of_their_own_are_refused_in_a_manifest(source: Path) -> None:
    """Taken in their order, 3 would be called liver."""
    labels = {"background": 0, "liver": 3, "spleen": 2, "gallbladder": 1}
    (source / "manifest.json").write_text(json.dumps({"labels": labels, "licence": "none"}))
    with pytest.raises(InvalidInputError, match="`labels` must be a list of names.*'liver': 3"):
        find_pairs(source)


def test_a_label_that_the_data_do_not_have_is_refused_with_those_known(source: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no labels \['heart'\].*liver.*spleen.*gallbladder"):
        select_labels(find_pairs(source), ["liver", "heart"])
    with pytest.raises(InvalidInputError, match="each once"):
        select_labels(find_pairs(source), ["liver", "Liver"])


def test_linked_files_are_the_source_files_and_the_source_stays(source: Path, tmp_path: Path) -> None:
    output = prepare(find_pairs(source), tmp_path / "out", link=True)
    assert (output / "imagesTr" / "a_0000.nii.gz").samefile(source / "a_image.nii.gz")
    assert (output / "labelsTr" / "a.nii.gz").samefile(source / "a_label.nii.gz")


def test_a_fractional_label_is_named_and_a_whole_one_of_type_float_becomes_8_bit(source: Path, tmp_path: Path) -> None:
    label = sitk.Cast(sitk.ReadImage(str(source / "a_label.nii.gz")), sitk.sitkFloat32)
    sitk.WriteImage(label, str(source / "a_label.nii.gz"))
    output = prepare(find_pairs(source), tmp_path / "out")
    written = sitk.ReadImage(str(output / "labelsTr" / "a.nii.gz"))
    assert written.GetPixelID() == sitk.sitkUInt8
    assert (sitk.GetArrayFromImage(written) == sitk.GetArrayFromImage(label)).all()
    label[0, 0, 0] = 0.5
    sitk.WriteImage(label, str(source / "a_label.nii.gz"))
    with pytest.raises(InvalidInputError, match=r"a: label values \[0.5\] have no name"):
        prepare(find_pairs(source), tmp_path / "again")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([-1000, 400], np.int32), np.int16),
        (np.array([-124.999, 275.001, 3.0], np.float32), np.int16),
        (np.array([0.25, 7.5], np.float64), np.float32),
        (np.array([0.0, 0.005], np.float32), np.float32),
        (np.array([0.0, 1.0], np.float32), np.float32),
        (np.array([0, 40000], np.uint16), np.float32),
    ],
)
def test_intensities_are_stored_as_int16_only_where_nothing_is_lost(
    values: np.ndarray[Any, Any], kind: type[np.generic]
) -> None:
    stored = fitting_type(values)
    assert stored.dtype == kind
    np.testing.assert_allclose(stored, values, atol=0.01 if kind is np.int16 else 1e-7)
