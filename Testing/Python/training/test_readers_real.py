"""The readers on the data sets beside the repository, where they are; each test says what is left out otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa_training.dataset import open_prepared
from udfa_training.label_names import CARDIAC_LABELS, SYNAPSE_ORDERS
from udfa_training.prepare import prepare, select_labels
from udfa_training.readers import read_source
from udfa_training.readers.source import SourceData
from udfa_training.splits import SplitChoice, split_cases

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def needs(name: str, folder: str) -> pytest.MarkDecorator:
    reason = f"reading {name} is left out: the data are not beside the repository (../shared/data/{folder})"
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=reason)


def first(data: SourceData, count: int) -> SourceData:
    return replace(data, cases=data.cases[:count])


def array_of(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


@needs("BTCV", "btcv")
def test_btcvs_labels_come_in_transunets_order_when_asked_for(tmp_path: Path) -> None:
    data = read_source(DATA / "btcv", "synapse")
    assert (len(data.cases), data.problems, data.labels) == (18, (), SYNAPSE_ORDERS["btcv"])
    split = split_cases(data, SplitChoice("transunet"))
    assert {case.split for case in split.cases} == {"train"}
    output = prepare(first(select_labels(split, SYNAPSE_ORDERS["transunet"]), 1), tmp_path / "out")
    old = array_of(DATA / "btcv" / "train" / "btcv0005_label.nii.gz")
    new = array_of(output / "labelsTr" / "btcv0005.nii.gz")
    for value, name in enumerate(SYNAPSE_ORDERS["transunet"], start=1):
        assert ((new == value) == (old == SYNAPSE_ORDERS["btcv"].index(name) + 1)).all()
        assert (new == value).any()
    entry = json.loads((output / "manifest.json").read_text())["cases"][0]
    assert max(entry["voxels"], key=entry["voxels"].get) == "liver"
    np.testing.assert_allclose(entry["spacing_mm"], [3.0, 1.5859, 1.5859], atol=1e-4)


@needs("ACDC", "acdc")
def test_acdcs_folders_agree_with_the_published_70_10_20_lists_and_its_spacing_is_unknown(tmp_path: Path) -> None:
    data = read_source(DATA / "acdc", "acdc")
    assert (len(data.cases), data.problems, data.labels) == (160, (), CARDIAC_LABELS)
    listed = split_cases(data, SplitChoice("acdc"))
    assert [case.split for case in listed.cases] == [case.split for case in data.cases]
    assert len({case.patient for case in data.cases if case.split == "val"}) == 10
    output = prepare(first(data, 2), tmp_path / "out")
    assert [case.spacing_known for case in open_prepared(output).cases] == [False, False]
    assert json.loads((output / "manifest.json").read_text())["modality"] == "MR"


@needs("MS-CMRSeg", "mscmr")
def test_mscmr_cases_keep_their_files_and_their_spacing(tmp_path: Path) -> None:
    data = read_source(DATA / "mscmr", "mscmr")
    assert (len(data.cases), data.problems) == (5, ())
    output = prepare(first(data, 1), tmp_path / "out")
    copied = output / "imagesTr" / "case01_0000.nii.gz"
    assert copied.read_bytes() == (DATA / "mscmr" / "case01_image.nii.gz").read_bytes()
    entry = json.loads((output / "manifest.json").read_text())["cases"][0]
    np.testing.assert_allclose(entry["spacing_mm"], [8, 1.25, 1.25], atol=0.01)
    assert min(entry["voxels"].values()) > 0


@needs("the Sunnybrook Cardiac Data", "sunnybrook")
def test_sunnybrooks_slices_make_two_gapless_volumes_per_patient(tmp_path: Path) -> None:
    data = read_source(DATA / "sunnybrook")
    assert (len(data.cases), len({case.patient for case in data.cases}), data.problems) == (60, 30, ())
    case = next(case for case in data.cases if case.name == "SC-HF-I-40_0001_phase08")
    output = prepare(replace(data, cases=(case,)), tmp_path / "out")
    image = array_of(output / "imagesTr" / f"{case.name}_0000.nii.gz")
    assert image.shape == (9, 256, 256)
    folder = DATA / "sunnybrook" / "train"
    for index, number in enumerate(range(28, 189, 20)):
        picture = next((folder / "Images").glob(f"*/SC-HF-I-40-IM-0001-{number:04d}.dcm.png"))
        assert (image[index] == array_of(picture)[..., 0]).all()


@needs("TotalSegmentator's reference files", "totalsegmentator")
def test_totalsegmentators_reference_files_give_organs_by_name(tmp_path: Path) -> None:
    data = select_labels(read_source(DATA / "totalsegmentator"), ["liver", "aorta"])
    assert [case.name for case in data.cases] == ["example_ct", "example_ct_sm"]
    output = prepare(data, tmp_path / "out")
    reference = array_of(DATA / "totalsegmentator" / "example_seg_fast_force_split.nii.gz")
    label = array_of(output / "labelsTr" / "example_ct.nii.gz")
    assert ((label == 1) == (reference == 5)).all()
    assert ((label == 2) == (reference == 52)).all()
    assert (label == 1).sum() > (label == 2).sum() > 0
