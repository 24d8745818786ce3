"""Data sets that others handed out as NumPy, HDF5 or PNG files, made up by the tests with a few voxels each."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from udfa.errors import InvalidInputError
from udfa_training.dataset import open_prepared
from udfa_training.label_names import SYNAPSE_ORDERS
from udfa_training.prepare import prepare, select_labels
from udfa_training.readers import read_source
from udfa_training.readers.arrays import slices_first
from udfa_training.readers.source import ReaderOptions
from udfa_training.splits import SplitChoice, split_cases

HU = np.array([[-125, 275, 40], [0, 100, -60]], np.float64)
"""A slice in HU, within TransUNet's window; hand-checkable: (HU + 125) / 400 is what its files store."""


def scaled(hu: NDArray[Any]) -> NDArray[np.float32]:
    return ((hu + 125) / 400).astype(np.float32)


def organs(order: str) -> dict[str, int]:
    return {name: value for value, name in enumerate(SYNAPSE_ORDERS[order], start=1)}


def label_slice(order: str) -> NDArray[np.float64]:
    """(2, 3): liver, liver, pancreas / spleen, aorta, background by an order's values."""
    values = organs(order)
    return np.array(
        [[values["liver"], values["liver"], values["pancreas"]], [values["spleen"], values["aorta"], 0]], np.float64
    )


def write_h5(path: Path, **arrays: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def transunet(folder: Path, order: str = "transunet") -> Path:
    """Case 5 as three slices of HU + 0, + 1, + 2 (clipped), case 1 as a volume of nearly the same."""
    stack = np.clip(np.stack([HU, HU + 1, HU + 2]), -125, 275)
    labels = np.stack([label_slice(order)] * 3)
    for index in range(3):
        name = f"case0005_slice{index:03d}.npz"
        write_npz(folder / "train_npz" / name, image=scaled(stack[index]), label=labels[index])
    stack[0, 1, 2] -= 1
    write_h5(folder / "test_vol_h5" / "case0001.npy.h5", image=scaled(stack), label=labels)
    return folder


def arrays_of(folder: Path, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    (entry,) = (case for case in open_prepared(folder).cases if case.name == name)
    image, label = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (entry.image, entry.label))
    return image, label


def test_transunets_slices_and_volumes_become_hu_with_labels_by_name(tmp_path: Path) -> None:
    data = split_cases(read_source(transunet(tmp_path / "in")), SplitChoice("transunet"))
    output = prepare(select_labels(data, ["liver", "spleen", "pancreas", "aorta"]), tmp_path / "out")
    assert [(c.name, c.split, c.spacing_known) for c in open_prepared(output).cases] == [
        ("btcv0005", "train", False),
        ("btcv0001", "test", False),
    ]
    for case in ("btcv0001", "btcv0005"):
        image, label = arrays_of(output, case)
        assert image.dtype == np.int16
        assert image[:, 1, 1].tolist() == [100, 101, 102]
        assert image[:, 0, 0].tolist() == [-125, -124, -123]
        assert image[:, 0, 1].tolist() == [275, 275, 275]
        assert label[2].tolist() == [[1, 1, 3], [2, 4, 0]]


@pytest.mark.parametrize("order", ["transunet", "emcad", "btcv"])
def test_the_same_organs_come_out_of_every_published_label_order(tmp_path: Path, order: str) -> None:
    source = transunet(tmp_path / "in", order)
    data = read_source(source, "synapse", ReaderOptions(label_order=order))
    output = prepare(select_labels(data, ["liver", "spleen", "pancreas", "aorta"]), tmp_path / "out")
    assert arrays_of(output, "btcv0001")[1][0].tolist() == [[1, 1, 3], [2, 4, 0]]


def test_transunets_and_emcads_orders_give_one_value_to_different_organs() -> None:
    assert organs("transunet") == {
        "aorta": 1,
        "gallbladder": 2,
        "left_kidney": 3,
        "right_kidney": 4,
        "liver": 5,
        "pancreas": 6,
        "spleen": 7,
        "stomach": 8,
    }
    assert organs("emcad") == {
        "spleen": 1,
        "right_kidney": 2,
        "left_kidney": 3,
        "gallbladder": 4,
        "pancreas": 5,
        "liver": 6,
        "stomach": 7,
        "aorta": 8,
    }


def test_emcads_order_is_what_its_loader_makes_of_btcvs_values() -> None:
    reduced = list(SYNAPSE_ORDERS["btcv"])
    for dropped in (5, 9, 10, 12, 13):
        reduced[dropped - 1] = ""
    reduced[4], reduced[10] = reduced[10], ""
    assert tuple(name for name in reduced if name) == SYNAPSE_ORDERS["emcad"]


def test_a_label_order_by_which_the_liver_is_not_the_largest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="pancreas has 12 voxels and liver 6: .*--label-order"):
        prepare(read_source(transunet(tmp_path / "in", "emcad")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_beyond_the_label_order_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"btcv0001: label values \[11\] have no name.*--label-order btcv"):
        prepare(read_source(transunet(tmp_path / "in", "btcv")), tmp_path / "out")


def test_missing_slices_unreadable_files_and_other_intensities_are_listed_at_once(tmp_path: Path) -> None:
    source = transunet(tmp_path / "in")
    (source / "train_npz" / "case0005_slice001.npz").unlink()
    write_npz(source / "train_npz" / "case0001_slice000.npz", image=scaled(HU), label=label_slice("transunet"))
    write_npz(source / "train_npz" / "case0006_slice000.npz", image=HU, label=label_slice("transunet"))
    write_npz(source / "train_npz" / "case0007_slice000.npz", image=scaled(HU), mask=label_slice("transunet"))
    write_npz(source / "train_npz" / "case0009_slice000.npz", image=np.full((2, 3), np.nan), label=HU * 0)
    whole = (source / "train_npz" / "case0005_slice000.npz").read_bytes()
    (source / "train_npz" / "case0010_slice000.npz").write_bytes(whole[:100])
    (source / "test_vol_h5" / "case0002.npy.h5").write_bytes(b"no HDF5")
    write_npz(source / "train_npz" / "case0021_slice000.npz", image=np.zeros((0, 3)), label=np.zeros((0, 3)))
    (source / "test_vol_h5_new").mkdir()
    with pytest.raises(InvalidInputError) as raised:
        prepare(read_source(source), tmp_path / "out")
    for complaint in (
        "case0001 is both in train_npz and in test_vol_h5",
        "case0005 lacks slices 1 in train_npz",
        "btcv0001: there are 2 cases of this name",
        "btcv0006: case0006_slice000.npz: intensities run from -125 to 275",
        "btcv0007: ",
        "must hold the arrays 'image' and 'label'",
        "btcv0009: case0009_slice000.npz: intensities run from nan to nan",
        "'image' is empty (its shape is (0, 3))",
        "several folders ['test_vol_h5', 'test_vol_h5_new']",
        "case0010_slice000.npz cannot be read",
        "case0002.npy.h5 cannot be read",
    ):
        assert complaint in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    write_npz(tmp_path / "train_npz" / "case0005_slice000.npz", image=np.array([{}]), label=HU)
    with pytest.raises(InvalidInputError, match=r"slice000.npz cannot be read.*pickle"):
        prepare(read_source(tmp_path), tmp_path / "out")


def test_volumes_with_the_slices_last_are_turned(tmp_path: Path) -> None:
    image = np.arange(12).reshape(2, 2, 3)
    turned, _ = slices_first((image, image), tmp_path)
    assert turned.shape == (3, 2, 2)
    assert turned[2].tolist() == [[2, 5], [8, 11]]
    kept, _ = slices_first((turned, turned), tmp_path)
    assert kept.shape == (3, 2, 2)
    with pytest.raises(InvalidInputError, match="must be 3D"):
        slices_first((image[0], image[0]), tmp_path)


def test_without_h5py_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = transunet(tmp_path / "in")
    real_import = builtins.__import__

    def without_h5py(name: str, *rest: Any) -> Any:
        if name == "h5py":
            raise ImportError("No module named 'h5py'")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(InvalidInputError, match="btcv0001: .*needs h5py.*pip install h5py"):
        prepare(read_source(source), tmp_path / "out")


def test_ssl4mis_volumes_are_preferred_and_slices_stacked_by_number(tmp_path: Path) -> None:
    image = np.arange(44, dtype=np.float32).reshape(11, 2, 2) / 44
    label = (np.arange(44) % 4).reshape(11, 2, 2).astype(np.uint8)
    data_folder = tmp_path / "in" / "data"
    write_h5(data_folder / "patient001_frame01.h5", image=image, label=label)
    write_h5(data_folder / "slices" / "patient001_frame01_slice_0.h5", image=image[0] * 0, label=label[0] * 0)
    for index in range(11):
        path = data_folder / "slices" / f"patient002_frame02_slice_{index}.h5"
        write_h5(path, image=image[index], label=label[index])
    data = split_cases(read_source(tmp_path / "in", "acdc"), SplitChoice("acdc"))
    output = prepare(data, tmp_path / "out")
    entries = [(c["name"], c["patient"], c["split"], c["facts"]) for c in json.loads(manifest(output))["cases"]]
    assert entries == [
        ("patient001_frame01", "patient001", "test", {"frame": 1}),
        ("patient002_frame02", "patient002", "val", {"frame": 2}),
    ]
    for case in ("patient001_frame01", "patient002_frame02"):
        written, labels = arrays_of(output, case)
        assert written.dtype == np.float32
        np.testing.assert_array_equal(written, image)
        np.testing.assert_array_equal(labels, label)


def manifest(folder: Path) -> str:
    return (folder / "manifest.json").read_text()


def test_acdc_npz_files_have_their_folders_as_split_and_their_phase(tmp_path: Path) -> None:
    image, label = np.ones((3, 2, 2), np.float32) / 3, np.full((3, 2, 2), 2)
    source = tmp_path / "in"
    write_npz(source / "test" / "case_002_volume_ES.npz", img=image / 2, label=label)
    for part, number in (("train", 1), ("valid", 19)):
        for index in range(3):
            path = source / part / f"case_{number:03d}_sliceED_{index}.npz"
            write_npz(path, img=image[index] / number, label=label[index])
    output = prepare(read_source(source), tmp_path / "out")
    cases = json.loads(manifest(output))["cases"]
    assert [(c["name"], c["patient"], c["split"], c["facts"]["phase"]) for c in cases] == [
        ("patient001_ED", "patient001", "train", "ED"),
        ("patient002_ES", "patient002", "test", "ES"),
        ("patient019_ED", "patient019", "val", "ED"),
    ]
    assert {tuple(c["voxels"].items()) for c in cases} == {
        (("right_ventricle", 0), ("myocardium", 12), ("left_ventricle", 0))
    }


def test_acdc_slices_that_are_missing_doubled_or_of_another_shape_are_listed(tmp_path: Path) -> None:
    image, label = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8)
    for name in ("a/patient001_frame01_slice_0", "a/patient001_frame01_slice_2", "b/patient001_frame01_slice_2"):
        write_h5(tmp_path / "in" / f"{name}.h5", image=image, label=label)
    write_h5(tmp_path / "in" / "patient002_frame01_slice_0.h5", image=image, label=label)
    write_h5(tmp_path / "in" / "patient002_frame01_slice_1.h5", image=image[:1], label=label)
    nan = np.full((1, 2, 2), np.nan, np.float32)
    write_h5(tmp_path / "in" / "patient003_frame01.h5", image=nan, label=label[None])
    write_h5(tmp_path / "in" / "patient004_frame01.h5", image=nan, label=label[None, :1])
    with pytest.raises(InvalidInputError, match="5 problems") as raised:
        prepare(read_source(tmp_path / "in"), tmp_path / "out")
    for complaint in (
        "patient001_frame01 is there 2 times",
        "patient001_frame01 lacks slices 1",
        "image shapes: [(1, 2), (2, 2)]",
        "patient003_frame01: the image has voxels that are infinite or no numbers",
        "patient004_frame01: image has shape (1, 2, 2), label (1, 1, 2)",
    ):
        assert complaint in str(raised.value)


def sunnybrook(folder: Path, numbers: tuple[int, ...], patient: str = "SC-HF-I-01") -> Path:
    """A picture of grey value n and a mask with one white pixel, in three equal channels, for every number n."""
    for number in numbers:
        name = f"{patient}-IM-0001-{number:04d}.dcm.png"
        picture, mask = np.full((4, 5, 3), number, np.uint8), np.zeros((4, 5, 3), np.uint8)
        mask[1, 2] = 255
        for kind, array in (("Images", picture), ("Labels", mask)):
            path = folder / "train" / kind / "Part1" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(path))
    return folder


def test_sunnybrooks_pictures_become_a_volume_per_phase(tmp_path: Path) -> None:
    output = prepare(read_source(sunnybrook(tmp_path / "in", (48, 68, 88, 60, 80))), tmp_path / "out")
    record = json.loads(manifest(output))
    assert (record["labels"], record["modality"]) == (["left_ventricle"], "MR")
    assert "CC0" in record["licence"]
    assert [(c["name"], c["patient"], c["facts"]) for c in record["cases"]] == [
        ("SC-HF-I-01_0001_phase08", "SC-HF-I-01", {"phase_number": 8, "first_slice": 3, "last_slice": 5}),
        ("SC-HF-I-01_0001_phase20", "SC-HF-I-01", {"phase_number": 20, "first_slice": 3, "last_slice": 4}),
    ]
    image, label = arrays_of(output, "SC-HF-I-01_0001_phase08")
    assert image[:, 0, 0].tolist() == [48, 68, 88]
    assert np.argwhere(label).tolist() == [[0, 1, 2], [1, 1, 2], [2, 1, 2]]
    assert label.max() == 1


def test_sunnybrook_gaps_lone_pictures_and_strange_masks_are_listed_at_once(tmp_path: Path) -> None:
    source = sunnybrook(tmp_path / "in", (8, 48, 20))
    images, labels = (source / "train" / kind / "Part1" for kind in ("Images", "Labels"))
    (images / "SC-HF-I-01-IM-0001-0028.dcm.png").write_bytes((images / "SC-HF-I-01-IM-0001-0008.dcm.png").read_bytes())
    grey = np.full((4, 5), 7, np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(labels / "SC-HF-I-01-IM-0001-0020.dcm.png"))
    with pytest.raises(InvalidInputError, match="3 problems") as raised:
        prepare(read_source(source), tmp_path / "out")
    for complaint in ("0028.dcm.png has no mask", "phase08 lacks slices 2", "phase20: label values [7] have no name"):
        assert complaint in str(raised.value)


def test_totalsegmentators_masks_become_one_labelmap_with_the_split_of_its_table(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number, subject in enumerate(("s0000", "s0001")):
        folder = source / subject
        (folder / "segmentations").mkdir(parents=True)
        ct = np.arange(24, dtype=np.int16).reshape(2, 3, 4) + np.int16(number)
        sitk.WriteImage(sitk.GetImageFromArray(ct), str(folder / "ct.nii.gz"))
        for index, name in enumerate(("liver", "kidney_left", "duodenum")):
            mask = np.zeros((2, 3, 4), np.uint8)
            mask[0, 0, index] = 1
            sitk.WriteImage(sitk.GetImageFromArray(mask), str(folder / "segmentations" / f"{name}.nii.gz"))
    (source / "meta.csv").write_text("image_id;age;split\ns0000;50;train\ns0001;60;test\n")
    output = prepare(read_source(source), tmp_path / "out")
    assert open_prepared(output).labels == ("left_kidney", "liver")
    assert [(case.name, case.split) for case in open_prepared(output).cases] == [("s0000", "train"), ("s0001", "test")]
    assert arrays_of(output, "s0000")[1][0, 0].tolist() == [2, 1, 0, 0]
    wanted = read_source(source, "totalsegmentator", ReaderOptions(labels=("duodenum", "liver")))
    assert arrays_of(prepare(wanted, tmp_path / "other"), "s0001")[1][0, 0].tolist() == [2, 0, 1, 0]
    moved = sitk.ReadImage(str(source / "s0000" / "segmentations" / "liver.nii.gz"))
    moved.SetSpacing((1, 1, 2))
    sitk.WriteImage(moved, str(source / "s0000" / "segmentations" / "liver.nii.gz"))
    (source / "s0001" / "segmentations" / "liver.nii.gz").unlink()
    with pytest.raises(InvalidInputError, match=r"s0001/segmentations lacks masks of \['liver'\]") as raised:
        prepare(read_source(source), tmp_path / "third")
    assert "s0000: liver.nii.gz lies at a different place" in str(raised.value)
