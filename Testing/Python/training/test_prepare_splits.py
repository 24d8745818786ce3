"""Published splits, one's own, and folds: always by patient."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes.pairs import find_pairs
from udfa.errors import InvalidInputError
from udfa_training.dataset import open_prepared
from udfa_training.prepare import prepare
from udfa_training.readers.source import CaseVolumes, SourceCase, SourceData, plain_volume
from udfa_training.splits import SPLITS, SplitChoice, assign_folds, split_cases


def tiny() -> CaseVolumes:
    return CaseVolumes(plain_volume(np.zeros((2, 3, 3), np.int16)), plain_volume(np.zeros((2, 3, 3), np.uint8)))


def made(*patients: str, frames: int = 1, split: str = "train", kind: str = "pairs") -> SourceData:
    """A data set of these patients, with so many frames each."""
    cases = [SourceCase(f"{p}_f{frame}", p, split, tiny) for p in patients for frame in range(frames)]
    return SourceData("made", kind, {1: "liver"}, "none", "CT", tuple(cases))


def splits_of(data: SourceData) -> dict[str, str]:
    return {case.name: case.split for case in data.cases}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("transunet", {"train": 18, "test": 12}),
        ("acdc", {"train": 70, "val": 10, "test": 20}),
        ("acdc-npz", {"train": 70, "val": 10, "test": 20}),
    ],
)
def test_published_lists_have_the_published_sizes_and_no_patient_twice(name: str, sizes: dict[str, int]) -> None:
    assert {split: len(numbers) for split, numbers in SPLITS[name].items()} == sizes
    everyone = [number for numbers in SPLITS[name].values() for number in numbers]
    assert len(everyone) == len(set(everyone))


def test_transunets_lists_are_those_of_its_repository() -> None:
    data = split_cases(made("btcv0005", "btcv0001", "btcv0038", "btcv0040"), SplitChoice("transunet"))
    assert [case.split for case in data.cases] == ["train", "test", "test", "train"]


def test_the_two_acdc_lists_differ() -> None:
    patients = ("patient002", "patient019", "patient021", "patient001", "patient100")
    old = split_cases(made(*patients, frames=2), SplitChoice("acdc"))
    new = split_cases(made(*patients, frames=2), SplitChoice("acdc-npz"))
    assert [case.split for case in old.cases] == [s for s in ("val", "val", "train", "test", "train") for _ in "ab"]
    assert [case.split for case in new.cases] == [s for s in ("test", "val", "val", "train", "train") for _ in "ab"]


def test_patients_that_no_list_knows_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"Patients \['patient101', 'x'\] are in none of the lists of .*acdc"):
        split_cases(made("patient100", "patient101", "x"), SplitChoice("acdc"))


def test_a_list_of_another_data_set_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'acdc' lists patients of acdc, but the data are sunnybrook"):
        split_cases(made("SC-N-02", kind="sunnybrook (PNG)"), SplitChoice("acdc"))


def test_none_puts_every_case_into_training() -> None:
    data = split_cases(made("a", "b", split="test"), SplitChoice("none", validation=("b",)))
    assert splits_of(data) == {"a_f0": "train", "b_f0": "val"}


def test_patients_for_testing_are_not_taken_for_validation() -> None:
    with pytest.raises(InvalidInputError, match=r"\['btcv0001'\] are for testing"):
        split_cases(made("btcv0001", "btcv0005"), SplitChoice("transunet", validation=("btcv0001",)))


def test_folds_are_by_patient_equal_in_size_and_depend_on_the_seed_alone() -> None:
    patients = [f"p{n}" for n in range(11)]
    folds = assign_folds(patients, 5, seed=0)
    assert sorted(Counter(folds.values()).values()) == [2, 2, 2, 2, 3]
    assert assign_folds(reversed(patients), 5, seed=0) == folds
    assert assign_folds(patients, 5, seed=1) != folds


def test_one_fold_is_held_out_with_all_frames_of_its_patients_and_test_patients_have_none() -> None:
    everyone = made("a", "b", "c", "d", frames=2)
    tested = [replace(case, split="test") if case.patient == "d" else case for case in everyone.cases]
    data = split_cases(replace(everyone, cases=tuple(tested)), SplitChoice(folds=3, fold=1))
    held_out = {case.patient for case in data.cases if case.split == "val"}
    assert len(held_out) == 1
    assert Counter(case.split for case in data.cases) == {"train": 4, "val": 2, "test": 2}
    assert {case.fold for case in data.cases if case.patient == "d"} == {None}
    assert {case.fold for case in data.cases if case.patient in held_out} == {1}


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        (SplitChoice(folds=5), "3 patients cannot make 5 folds. .*--patient-pattern"),
        (SplitChoice(folds=1), "cannot make 1 folds"),
        (SplitChoice(folds=3, fold=3), "Fold 3 is not among the 3 folds 0 to 2"),
        (SplitChoice(folds=3, seed=-1), "seed of the folds is -1, but must be at least 0"),
        (SplitChoice(fold=0), "--folds 5 --fold 0"),
        (SplitChoice(folds=3, fold=0, validation=("a",)), "not both"),
    ],
)
def test_impossible_folds_are_refused_with_the_reason(choice: SplitChoice, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        split_cases(made("a", "b", "c"), choice)


def test_folds_in_the_manifest_can_be_chosen_when_the_data_are_opened(source: Path, tmp_path: Path) -> None:
    output = prepare(split_cases(find_pairs(source), SplitChoice(folds=3)), tmp_path / "out")
    assert [case.split for case in open_prepared(output).cases] == ["train"] * 3
    held_out = [[case.name for case in open_prepared(output, fold).split("val")] for fold in range(3)]
    assert sorted(held_out) == [["a"], ["b"], ["c"]]
    assert len(open_prepared(output, 0).split("train")) == 2
    with pytest.raises(InvalidInputError, match=r"no fold 3; its folds are \[0, 1, 2\]"):
        open_prepared(output, 3)


def test_data_prepared_without_folds_say_how_to_get_them(prepared: Path) -> None:
    assert "fold" not in json.loads((prepared / "manifest.json").read_text())["cases"][0]
    with pytest.raises(InvalidInputError, match="its folds are none.*--folds"):
        open_prepared(prepared, 0)


def test_a_manifest_with_a_patient_on_both_sides_is_refused(prepared: Path) -> None:
    path = prepared / "manifest.json"
    manifest = json.loads(path.read_text())
    for case in manifest["cases"]:
        case["patient"] = "a" if case["name"] in "ac" else case["patient"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidInputError, match="Patient a is in train and in val. Move all cases of a patient"):
        open_prepared(prepared)


def test_one_image_under_two_patients_on_two_sides_is_refused(tmp_path: Path) -> None:
    data = made("a", "b", "c")
    held_out = split_cases(data, SplitChoice(validation=("b",)))
    with pytest.raises(InvalidInputError, match=r"b_f0: the image is that of a_f0.* b is in val and a in train"):
        prepare(held_out, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folded = split_cases(data, SplitChoice(folds=3))
    with pytest.raises(InvalidInputError, match=r"c_f0: the image is that of a_f0, .*\(fold"):
        prepare(folded, tmp_path / "out")


def test_one_image_under_two_patients_who_train_both_is_taken(tmp_path: Path) -> None:
    assert len(open_prepared(prepare(made("a", "b"), tmp_path / "out")).cases) == 2
