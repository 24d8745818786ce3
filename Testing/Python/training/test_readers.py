"""Data sets in the forms in which they are distributed, made up by the tests with a few voxels each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa.labels import KNOWN_LABELS
from udfa_training.commands.prepare import KINDS as COMMAND_KINDS
from udfa_training.commands.prepare import LABEL_ORDERS
from udfa_training.commands.prepare import SPLITS as COMMAND_SPLITS
from udfa_training.dataset import open_prepared
from udfa_training.label_names import (
    ALIASES,
    BTCV_LABELS,
    CARDIAC_LABELS,
    SYNAPSE_ORDERS,
    TOTALSEGMENTATOR_VALUES,
    canonical_name,
)
from udfa_training.prepare import prepare, select_labels
from udfa_training.readers import KINDS, read_source
from udfa_training.readers.source import ReaderOptions, gaps
from udfa_training.splits import SPLIT_NAMES

SPACING_XYZ = (1.5, 1.25, 5.0)


def write(path: Path, array: NDArray[Any], spacing_xyz: tuple[float, float, float] = SPACING_XYZ) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_xyz)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def labels_with(*values: int) -> NDArray[np.uint8]:
    """(2, 4, 5) labels: one voxel of each value, from voxel (0, 0, 0) on."""
    array = np.zeros((2, 4, 5), np.uint8)
    array.ravel()[: len(values)] = values
    return array


def image_of(start: int = 0) -> NDArray[np.int16]:
    return np.arange(start, start + 40, dtype=np.int16).reshape(2, 4, 5)


def prepared_arrays(folder: Path, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    (entry,) = (case for case in open_prepared(folder).cases if case.name == name)
    image, label = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (entry.image, entry.label))
    return image, label


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def test_the_command_offers_what_the_readers_and_splits_know() -> None:
    assert set(COMMAND_KINDS) == set(KINDS)
    assert set(COMMAND_SPLITS) == set(SPLIT_NAMES)
    assert set(LABEL_ORDERS) == set(SYNAPSE_ORDERS)


def test_all_built_in_names_are_labels_that_the_project_knows() -> None:
    names = {*ALIASES.values(), *TOTALSEGMENTATOR_VALUES.values(), *CARDIAC_LABELS}
    assert names.union(*SYNAPSE_ORDERS.values()) <= set(KNOWN_LABELS)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Left Kidney", "left_kidney"),
        ("kidney_left", "left_kidney"),
        ("Gall Bladder", "gallbladder"),
        ("postcava", "inferior_vena_cava"),
        ("Portal Vein and Splenic Vein", "portal_and_splenic_vein"),
        ("Right adrenal gland", "right_adrenal"),
        ("RV", "right_ventricle"),
        ("MYO", "myocardium"),
        (" Tumour core (2) ", "tumour_core_2"),
        ("L\u00e4sion", "l\u00e4sion"),
        ("La\u0308sion", "l\u00e4sion"),
        ("腫瘍 2", "腫瘍_2"),
    ],
)
def test_spellings_of_a_label_become_one_name(spelling: str, name: str) -> None:
    assert canonical_name(spelling) == name


def test_missing_numbers_are_given_in_short() -> None:
    assert gaps([1, 2, 4, 8]) == "3, 5-7"
    assert gaps([3, 4, 5]) == ""


@pytest.mark.parametrize("folders", [("img", "label"), ("imagesTr", "labelsTr"), ("RawData/Training/img",) * 2])
def test_btcvs_archive_gives_thirteen_organs_by_value(tmp_path: Path, folders: tuple[str, str]) -> None:
    images, labels = folders[0], folders[1].replace("/img", "/label")
    for number in (5, 38):
        write(tmp_path / "in" / images / f"img{number:04d}.nii.gz", image_of())
        write(tmp_path / "in" / labels / f"label{number:04d}.nii.gz", labels_with(*range(14)))
    data = read_source(tmp_path / "in", "synapse")
    assert data.labels == BTCV_LABELS
    assert data.values[11] == "pancreas"
    output = prepare(data, tmp_path / "out")
    entries = manifest_of(output)["cases"]
    assert [entry["name"] for entry in entries] == ["btcv0005", "btcv0038"]
    assert entries[0]["spacing_mm"] == [5.0, 1.25, 1.5]
    assert entries[0]["voxels"] == dict.fromkeys(BTCV_LABELS, 1)
    assert "Research use only" in manifest_of(output)["licence"]


def test_btcv_images_without_labels_and_unknown_values_are_listed_at_once(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "img" / "img0001.nii.gz", image_of())
    write(source / "img" / "img0002.nii.gz", image_of())
    write(source / "label" / "label0002.nii.gz", labels_with(1, 14))
    with pytest.raises(InvalidInputError, match="2 problems, nothing") as raised:
        prepare(read_source(source), tmp_path / "out")
    assert "img0001.nii.gz has no label file" in str(raised.value)
    assert "btcv0002: label values [14] have no name" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def acdc_patient(folder: Path, number: int, info: str, frames: tuple[int, ...]) -> None:
    """A patient with labels 0, 1, 2, 3 in each frame, and a cine series that is no case."""
    patient = folder / f"patient{number:03d}"
    for frame in frames:
        write(patient / f"{patient.name}_frame{frame:02d}.nii.gz", image_of(frame))
        write(patient / f"{patient.name}_frame{frame:02d}_gt.nii.gz", labels_with(0, 1, 2, 3))
    patient.mkdir(parents=True, exist_ok=True)
    (patient / f"{patient.name}_4d.nii.gz").write_bytes(b"no case")
    (patient / "Info.cfg").write_text(info)


def test_acdcs_frames_keep_phase_and_group_and_its_folders_are_the_split(tmp_path: Path) -> None:
    acdc_patient(tmp_path / "in" / "training", 90, "ED: 11\nES: 4\nGroup: NOR\nNbFrame: 30\n", (11, 4))
    acdc_patient(tmp_path / "in" / "testing", 101, "ED: 1\nES: 12\nGroup: DCM\n", (1, 12))
    output = prepare(read_source(tmp_path / "in", "acdc"), tmp_path / "out")
    facts = {
        entry["name"]: (entry["patient"], entry["split"], entry["facts"]) for entry in manifest_of(output)["cases"]
    }
    normal = {"group": "NOR", "frames": 30}
    assert facts == {
        "patient090_frame11": ("patient090", "train", {"phase": "ED", "frame": 11, **normal}),
        "patient090_frame04": ("patient090", "train", {"phase": "ES", "frame": 4, **normal}),
        "patient101_frame01": ("patient101", "test", {"phase": "ED", "frame": 1, "group": "DCM"}),
        "patient101_frame12": ("patient101", "test", {"phase": "ES", "frame": 12, "group": "DCM"}),
    }
    assert manifest_of(output)["labels"] == list(CARDIAC_LABELS)
    assert manifest_of(output)["modality"] == "MR"


def test_acdc_patients_without_phases_or_frames_are_listed_at_once(tmp_path: Path) -> None:
    acdc_patient(tmp_path / "in", 1, "ED: 1\nGroup: NOR\n", (1,))
    acdc_patient(tmp_path / "in", 2, "ED: 1\nES: 9\n", (1,))
    with pytest.raises(InvalidInputError, match="2 problems") as raised:
        prepare(read_source(tmp_path / "in"), tmp_path / "out")
    assert "Info.cfg must give the numbers of the frames ED and ES" in str(raised.value)
    assert "lacks patient002_frame09.nii.gz" in str(raised.value)


def nnunet(folder: Path, description: Mapping[str, Any], cases: Mapping[str, NDArray[Any]], ending: str) -> Path:
    for name, label in cases.items():
        write(folder / "imagesTr" / f"{name}_0000{ending}", image_of())
        write(folder / "labelsTr" / f"{name}{ending}", label)
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize(
    "labels", [{"background": 0, "LV": 3, "RV": 1, "MYO": 2}, {"0": "background", "1": "RV", "2": "MYO", "3": "LV"}]
)
def test_nnunets_labels_are_read_in_the_form_of_version_2_and_of_version_1(
    tmp_path: Path, labels: dict[str, Any]
) -> None:
    channels = {"channel_names": {"0": "cineMRI"}} if "LV" in labels else {"modality": {"0": "MRI"}}
    cases = {f"patient001_frame{frame}": labels_with(0, 1, 2, 3) for frame in ("01", "12")}
    source = nnunet(tmp_path / "in", {"labels": labels, "licence": "CC0", **channels}, cases, ".nii.gz")
    data = read_source(source)
    assert (data.labels, data.modality, data.licence) == (CARDIAC_LABELS, "MR", "CC0")
    assert {case.patient for case in data.cases} == {"patient001"}


def test_nnunet_cases_of_other_file_types_are_converted_with_labels_in_another_order(tmp_path: Path) -> None:
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumour": 7, "liver": 4},
        "file_ending": ".mha",
    }
    source = nnunet(tmp_path / "in", description, {"case_1": labels_with(0, 4, 7)}, ".mha")
    data = select_labels(read_source(source), ["tumour", "liver"])
    output = prepare(data, tmp_path / "out")
    image, label = prepared_arrays(output, "case_1")
    assert label.ravel()[:4].tolist() == [0, 2, 1, 0]
    assert (image == image_of()).all()
    assert manifest_of(output)["cases"][0]["spacing_mm"] == [5.0, 1.25, 1.5]
    assert data.modality == "CT"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, r"2 channels \(T1, T2\), but one"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, r"regions of several values \(\['whole'\]\)"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, "ignore label"),
        ({"labels": {}}, "at least one label"),
        ({"labels": {"background": 0, "liver": "one"}}, "whole numbers"),
    ],
)
def test_nnunet_data_that_cannot_be_used_are_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}} | changes
    source = nnunet(tmp_path / "in", description, {"a": labels_with(0, 1)}, ".nii.gz")
    with pytest.raises(InvalidInputError, match=complaint):
        read_source(source, "nnunet")


def test_nnunet_channels_without_cases_and_labels_without_images_are_listed(tmp_path: Path) -> None:
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    source = nnunet(tmp_path / "in", description, {"a": labels_with(0, 1)}, ".nii.gz")
    write(source / "imagesTr" / "a_0001.nii.gz", image_of())
    write(source / "imagesTr" / "c_0000.nii.gz", image_of())
    write(source / "labelsTr" / "b.nii.gz", labels_with(0, 1))
    with pytest.raises(InvalidInputError, match="3 problems") as raised:
        prepare(read_source(source), tmp_path / "out")
    for complaint in ("a_0001.nii.gz is neither", "b.nii.gz has no image", "c_0000.nii.gz has no label"):
        assert complaint in str(raised.value)


def test_decathlon_images_without_channel_and_labelled_test_cases_are_found(tmp_path: Path) -> None:
    description = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}}
    source = tmp_path / "in"
    source.mkdir()
    (source / "dataset.json").write_text(json.dumps(description))
    for part, name in (("Tr", "liver_0"), ("Tr", "liver_0000"), ("Ts", "liver_9")):
        write(source / f"images{part}" / f"{name}.nii.gz", image_of())
        write(source / f"labels{part}" / f"{name}.nii.gz", labels_with(0, 1))
    write(source / "imagesTs" / "liver_77.nii.gz", image_of())
    data = read_source(source)
    assert data.problems == ()
    assert {case.name: case.split for case in data.cases} == {
        "liver_0": "train",
        "liver_0000": "train",
        "liver_9": "test",
    }


def test_a_pattern_tells_the_patient_in_nnunet_case_names(tmp_path: Path) -> None:
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    cases = {name: labels_with(0, 1) for name in ("ward_7_a", "ward_7_b", "ward_8_a")}
    source = nnunet(tmp_path / "in", description, cases, ".nii.gz")
    assert [case.patient for case in read_source(source).cases] == ["ward_7_a", "ward_7_b", "ward_8_a"]
    patterned = read_source(source, "nnunet", ReaderOptions(patient_pattern=r"(ward_\d+)_"))
    assert [case.patient for case in patterned.cases] == ["ward_7", "ward_7", "ward_8"]
    with pytest.raises(InvalidInputError, match="'\\(ward' is no regular expression"):
        read_source(source, "nnunet", ReaderOptions(patient_pattern="(ward"))


def test_a_pattern_that_finds_no_patient_is_refused_since_cases_of_one_could_be_on_both_sides(tmp_path: Path) -> None:
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    cases = {name: labels_with(0, 1) for name in ("ward_7_a", "Ward_7_b")}
    source = nnunet(tmp_path / "in", description, cases, ".nii.gz")
    data = read_source(source, "nnunet", ReaderOptions(patient_pattern=r"(ward_\d+)_"))
    assert data.problems == (r"Ward_7_b: the patient pattern '(ward_\\d+)_' finds no patient in this name.",)
    with pytest.raises(InvalidInputError, match="has no group: put the patient in brackets"):
        read_source(source, "nnunet", ReaderOptions(patient_pattern=r"ward_\d+"))


def test_a_pattern_tells_the_patient_in_the_names_of_pairs(source: Path) -> None:
    for path in source.glob("a_*"):
        path.rename(path.with_name(path.name.replace("a_", "site_1_scan2_")))
    data = read_source(source, options=ReaderOptions(patient_pattern=r"(site_\d+)|^([bc])"))
    assert data.problems == tuple(
        f"{name}: the patient pattern '(site_\\\\d+)|^([bc])' finds no patient in this name." for name in "bc"
    )
    data = read_source(source, options=ReaderOptions(patient_pattern=r"(site_\d+|^[bc])"))
    assert {case.patient for case in data.cases} == {"site_1", "b", "c"}


@pytest.mark.parametrize("option", [ReaderOptions(patient_pattern="(.)"), ReaderOptions(label_order="emcad")])
def test_options_that_a_form_does_not_read_are_refused(option: ReaderOptions, tmp_path: Path) -> None:
    for folder, name in (("img", "img0001.nii.gz"), ("label", "label0001.nii.gz")):
        write(tmp_path / "in" / folder / name, image_of())
    with pytest.raises(InvalidInputError, match="--patient-pattern|--label-order"):
        read_source(tmp_path / "in", options=option)


def test_a_pattern_holds_for_a_prepared_folder_too(prepared: Path) -> None:
    patterned = read_source(prepared, "nnunet", ReaderOptions(patient_pattern="([a-c])"))
    assert [case.patient for case in patterned.cases] == ["a", "b", "c"]
    all_one = read_source(prepared, "nnunet", ReaderOptions(patient_pattern="()[abc]|(x)"))
    assert len(all_one.problems) == 3


def test_a_prepared_folder_can_be_prepared_again_with_fewer_labels_and_keeps_its_split(
    prepared: Path, tmp_path: Path
) -> None:
    again = prepare(select_labels(read_source(prepared), ["spleen"]), tmp_path / "again")
    old, new = manifest_of(prepared), manifest_of(again)
    assert new["labels"] == ["spleen"]
    assert [(c["name"], c["split"], c["voxels"]["spleen"]) for c in new["cases"]] == [
        (c["name"], c["split"], c["voxels"]["spleen"]) for c in old["cases"]
    ]
    assert (new["kind"], new["licence"]) == ("pairs", old["licence"])


def test_unreadable_json_is_named(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "in", {}, {"a": labels_with(0, 1)}, ".nii.gz")
    (source / "dataset.json").write_text('{"labels": ')
    with pytest.raises(InvalidInputError, match="dataset.json is no valid JSON"):
        read_source(source)


def test_a_folder_of_no_known_form_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"is no known data set(.|\n)*train_npz(.|\n)*Info.cfg(.|\n)*dataset.json"
    ):
        read_source(tmp_path)
    with pytest.raises(InvalidInputError, match=r"absent does not exist(.|\n)*sunnybrook: Images/") as raised:
        read_source(tmp_path / "absent", "sunnybrook")
    assert "train_npz" not in str(raised.value)


def test_pairs_without_a_manifest_are_read_when_the_kind_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "case01_image.nii.gz", image_of())
    write(tmp_path / "in" / "case01_label.nii.gz", labels_with(0, 3, 2, 1))
    with pytest.raises(InvalidInputError, match=r"must name .* Pairs of synapse, acdc, mscmr need no such file"):
        read_source(tmp_path / "in")
    data = read_source(tmp_path / "in", "mscmr")
    assert (data.labels, data.modality) == (CARDIAC_LABELS, "MR")
    assert [case.patient for case in data.cases] == ["case01"]
