"""Segmentations from Slicer as training data: found by name, on the volume's grid, with what the record says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from udfa.audit import Audit, EditRecord, LabelEffect, ModelReference
from udfa.checkpoint import Description, read_info, save_checkpoint
from udfa.config import ModelConfig, NetworkConfig
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.labels import describe
from udfa.networks.udfa import UDFA
from udfa.segmentation_file import LabelledVolume, write_segmentation
from udfa.volume_io import image_from_array, read_volume, write_array
from udfa_training.cli import main
from udfa_training.prepare import prepare
from udfa_training.readers import read_source
from udfa_training.readers.source import ReaderOptions, SourceData

SHAPE = (4, 5, 6)
TURN = np.deg2rad(20)
DIRECTION = np.array([[0, -np.sin(TURN), np.cos(TURN)], [0, np.cos(TURN), np.sin(TURN)], [1, 0, 0.0]])
"""Oblique: rows and columns turned by 20 degrees about the axis from feet to head."""
OPTIONS = ReaderOptions(modality="CT", licence="none")


def volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Volume:
    array = np.random.default_rng(seed).integers(-100, 200, shape).astype(np.int16)
    return Volume(array, (5.0, 1.5, 1.25), DIRECTION, (10.0, -20.0, 300.0))


def labelmap() -> np.ndarray:
    """Liver (1) in slices 0-1, spleen (2) in slice 2."""
    array = np.zeros(SHAPE, np.uint8)
    array[:2, 1:4, 1:5], array[2, 2:4, 2:4] = 1, 2
    return array


def write_case(folder: Path, name: str = "case1", labels: np.ndarray | None = None, **changes: Any) -> Volume:
    folder.mkdir(exist_ok=True, parents=True)
    image = volume()
    write_array(folder / f"{name}.nrrd", image.array, image)
    names = changes.get("names", ("liver", "spleen"))
    content = LabelledVolume(
        labelmap() if labels is None else labels, image, {v: describe(n) for v, n in enumerate(names, start=1)}
    )
    write_segmentation(folder / f"{changes.get('segmentation', name)}.seg.nrrd", content)
    return image


def edit(number: int, kind: str = "click", undone: bool = False, label: str | None = "liver") -> EditRecord:
    effect = {"liver": LabelEffect(7, 0.1), "spleen": LabelEffect(-2, -0.1)}
    day = datetime(2024, 5, number, tzinfo=timezone.utc).isoformat(timespec="milliseconds")
    return EditRecord(number, day, kind, label, 1, "+", (), 9, 0.1, effect, None, (), 0.1, undone, "")


def write_audit(path: Path, image: Volume, *edits: EditRecord) -> None:
    labels = ("liver", "spleen", "gallbladder")
    Audit(image, labels, ModelReference("abdomen-ct-mini", "0123abcd"), edits=list(edits)).save(path)


def made(source: Path, tmp_path: Path, options: ReaderOptions = OPTIONS) -> tuple[dict[str, Any], np.ndarray]:
    """Manifest of the prepared data, and the labelmap of its first case."""
    folder = prepare(read_source(source, "corrections", options), tmp_path / "prepared")
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, read_volume(folder / manifest["cases"][0]["label"]).array


def problems(source: Path, tmp_path: Path, options: ReaderOptions = OPTIONS) -> str:
    with pytest.raises(InvalidInputError) as raised:
        prepare(read_source(source, "corrections", options), tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
    return str(raised.value)


def rewrite(path: Path, change: Callable[[dict[str, str]], None], array: np.ndarray | None = None) -> None:
    """Write a segmentation file again, with another header or other voxels."""
    image = sitk.ReadImage(str(path))
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if not key.startswith("NRRD_")}
    change(header)
    if array is not None:
        vector = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
        vector.CopyInformation(image)
        image = vector
    else:
        image = sitk.Image(image)
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
    for key, value in header.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path))


def test_names_in_any_script_are_kept(tmp_path: Path) -> None:
    for name in ("患者1", "患者2"):
        write_case(tmp_path / "source", name, names=("腫瘍 1", "腫瘍 2"))
    manifest, _ = made(tmp_path / "source", tmp_path)
    assert manifest["labels"] == ["腫瘍_1", "腫瘍_2"]
    assert [case["name"] for case in manifest["cases"]] == ["患者1", "患者2"]


def test_segments_become_labels_by_name_on_the_oblique_grid_of_the_volume(tmp_path: Path) -> None:
    image = write_case(tmp_path / "source")
    manifest, labels = made(tmp_path / "source", tmp_path)
    # The project's order of labels: spleen before liver.
    assert manifest["labels"] == ["spleen", "liver"]
    assert np.array_equal(labels, np.array([0, 2, 1], np.uint8)[labelmap()])
    case = manifest["cases"][0]
    assert (case["name"], case["patient"], case["voxels"]) == ("case1", "case1", {"spleen": 4, "liver": 24})
    assert case["spacing_mm"] == pytest.approx([5.0, 1.5, 1.25])
    written = read_volume(tmp_path / "prepared" / case["image"])
    assert np.array_equal(written.array, image.array)
    np.testing.assert_allclose(written.direction, DIRECTION, atol=1e-5)


def test_the_record_of_the_clicks_says_who_was_corrected_and_how_much(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = write_case(source)
    edits = (edit(1), edit(2, undone=True), edit(3, "scribble"), edit(4, "manual", label=None))
    write_audit(source / "case1.audit.json", image, *edits)
    manifest, _ = made(source, tmp_path)
    assert manifest["cases"][0]["facts"] == {
        "segmentation": "case1.seg.nrrd",
        "model": "abdomen-ct-mini",
        "model_sha256": "0123abcd",
        "clicks": 1,
        "scribbles": 1,
        "manual_edits": 1,
        "changed_voxels": 27,
        "corrected_labels": "liver, spleen",
        "corrected": "2024-05-04T00:00:00.000+00:00",
    }
    assert manifest["notes"] == []


def test_a_segmentation_without_a_record_is_taken_as_it_is_and_a_note_says_so(tmp_path: Path) -> None:
    write_case(tmp_path / "source")
    manifest, _ = made(tmp_path / "source", tmp_path)
    assert manifest["notes"] == ["No record of clicks for case1: the segmentations are taken as they are."]
    assert manifest["cases"][0]["facts"] == {"segmentation": "case1.seg.nrrd"}


def test_a_segmentation_that_covers_a_part_of_the_volume_is_padded(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = write_case(source)
    part = np.s_[1:3, 1:4, 2:5]
    origin = np.asarray(image.origin_mm) + DIRECTION @ (np.array([1, 1, 2]) * image.spacing_mm)
    cropped = Volume(labelmap()[part], image.spacing_mm, DIRECTION, tuple(origin))
    content = LabelledVolume(cropped.array, cropped, {1: describe("liver"), 2: describe("spleen")})
    write_segmentation(source / "case1.seg.nrrd", content)
    _, labels = made(source, tmp_path)
    expected = np.zeros(SHAPE, np.uint8)
    expected[part] = np.array([0, 2, 1], np.uint8)[labelmap()[part]]
    assert np.array_equal(labels, expected)


def test_a_segmentation_with_smaller_voxels_is_sampled_at_the_volumes_voxels(tmp_path: Path) -> None:
    """Voxels of half the side in plane, as after Slicer's oversampling: each voxel of the volume covers four."""
    source = tmp_path / "source"
    image = write_case(source)
    fine = labelmap().repeat(3, axis=1).repeat(3, axis=2)
    spacing = (5.0, 0.5, 1.25 / 3)
    origin = np.asarray(image.origin_mm) - DIRECTION @ np.array([0, 0.5, 1.25 / 3])
    grid = Volume(fine, spacing, DIRECTION, tuple(origin))
    content = LabelledVolume(fine, grid, {1: describe("liver"), 2: describe("spleen")})
    write_segmentation(source / "case1.seg.nrrd", content)
    _, labels = made(source, tmp_path)
    assert np.array_equal(labels, np.array([0, 2, 1], np.uint8)[labelmap()])


def test_a_segmentation_of_another_place_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = write_case(source)
    away = dataclasses.replace(image, origin_mm=(10.0, -20.0, 310.0))
    write_segmentation(source / "case1.seg.nrrd", LabelledVolume(labelmap(), away, {2: describe("spleen")}))
    assert "'Spleen' reaches 1 voxels beyond the volume" in problems(source, tmp_path)


def overlapping(source: Path) -> None:
    """Two layers: the liver of slices 0-1, and a tumour of 4 voxels within it."""
    write_case(source)
    tumour = np.zeros(SHAPE, np.uint8)
    tumour[0, 1:3, 1:3] = 1
    layers = np.stack([(labelmap() == 1).astype(np.uint8), tumour], axis=-1)

    def two_layers(header: dict[str, str]) -> None:
        header.update({"Segment1_ID": "Segment_1", "Segment1_Name": "My tumour", "Segment1_Layer": "1"})
        header["Segment1_LabelValue"] = "1"
        header.pop("Segment1_Tags")

    rewrite(source / "case1.seg.nrrd", two_layers, layers)


def test_segments_that_overlap_are_refused_with_the_number_of_voxels(tmp_path: Path) -> None:
    overlapping(tmp_path / "source")
    text = problems(tmp_path / "source", tmp_path)
    assert "case1: the segments 'Liver' and 'My tumour' overlap in 4 voxels" in text
    assert "--labels OUTER,INNER" in text


def test_in_a_given_order_the_later_label_wins_where_segments_overlap(tmp_path: Path) -> None:
    overlapping(tmp_path / "source")
    options = dataclasses.replace(OPTIONS, labels=("liver", "my_tumour"))
    manifest, labels = made(tmp_path / "source", tmp_path, options)
    assert manifest["labels"] == ["liver", "my_tumour"]
    assert manifest["cases"][0]["voxels"] == {"liver": 20, "my_tumour": 4}
    assert (labels[0, 1:3, 1:3] == 2).all()


def test_a_structure_that_was_not_segmented_in_one_case_is_not_taken_for_background(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source, "a")
    write_case(source, "b", np.where(labelmap() == 1, 1, 0).astype(np.uint8))
    text = problems(source, tmp_path)
    assert "b: b.seg.nrrd has no segments for spleen. Segment them" in text
    assert "--labels" in text


def test_a_structure_that_the_model_looked_for_and_did_not_find_is_not_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source, "a")
    image = write_case(source, "b", np.where(labelmap() == 1, 1, 0).astype(np.uint8))
    write_audit(source / "b.audit.json", image, edit(1))
    manifest, _ = made(source, tmp_path)
    assert [case["voxels"]["spleen"] for case in manifest["cases"]] == [4, 0]
    # The record lists what the model knows, not what was wanted of it: whoever reads it has to see what follows.
    assert "No segment, and so taken as not there, since the model knows them: b (spleen)." in manifest["notes"][-1]


def test_an_empty_segment_says_that_the_structure_is_not_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source)
    only_liver = np.where(labelmap() == 1, 1, 0).astype(np.uint8)
    rewrite(source / "case1.seg.nrrd", lambda header: None, only_liver)
    manifest, _ = made(source, tmp_path)
    assert manifest["cases"][0]["voxels"] == {"spleen": 0, "liver": 24}


def test_unwanted_segments_become_background_and_a_note_names_them(tmp_path: Path) -> None:
    write_case(tmp_path / "source", names=("liver", "scratch"))
    manifest, labels = made(tmp_path / "source", tmp_path, dataclasses.replace(OPTIONS, labels=("Liver",)))
    assert np.array_equal(labels, labelmap() == 1)
    assert "Segments that count as background: scratch." in manifest["notes"]


def test_two_segments_of_one_structure_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source)
    twice = {"Segment1_ID": "Segment_1", "Segment1_Name": "liver", "Segment1_Tags": ""}
    rewrite(source / "case1.seg.nrrd", lambda header: header.update(twice))
    assert "The segments ['Liver', 'liver'] are all liver" in problems(source, tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "volumes", "expected"),
    [
        ("CT", ["CT"], "CT"),
        ("CT-organs", ["CT"], "CT"),
        ("CT 2 segmentation", ["CT", "CT 2"], "CT-2"),
        ("CT2", ["CT", "CT2"], "CT2"),
    ],
)
def test_a_segmentation_belongs_to_the_volume_whose_name_it_begins_with(
    segmentation: str, volumes: list[str], expected: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    write_case(source, volumes[-1], segmentation=segmentation)
    for name in volumes[:-1]:
        write_case(source, name)
    data = read_source(source, "corrections", OPTIONS)
    assert data.problems == ()
    files = {case.name: case.facts["segmentation"] for case in data.cases}
    assert files[expected] == f"{segmentation}.seg.nrrd"


def test_a_subfolder_holds_one_case_whatever_its_files_are_called(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source / "ward 3_scan1", "2 Abdomen", segmentation="Segmentation")
    write_case(source / "ward 4_scan1", "2 Abdomen", segmentation="Segmentation")
    data = read_source(source, "corrections", OPTIONS)
    assert [(case.name, case.patient) for case in data.cases] == [
        ("ward-3_scan1", "ward-3"),
        ("ward-4_scan1", "ward-4"),
    ]


def test_all_files_without_partners_are_listed_at_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = write_case(source, "a")
    write_array(source / "lonely.nii.gz", image.array, image)
    (source / "a-again.seg.nrrd").write_bytes((source / "a.seg.nrrd").read_bytes())
    (source / "other.seg.nrrd").write_bytes((source / "a.seg.nrrd").read_bytes())
    write_case(source / "sub", "x")
    write_array(source / "sub" / "y.nrrd", image.array, image)
    text = problems(source, tmp_path)
    assert "other.seg.nrrd has no volume whose name it has or begins with" in text
    assert "lonely.nii.gz has no segmentation lonely.seg.nrrd" in text
    assert "a.nrrd has 2 segmentations: a-again.seg.nrrd, a.seg.nrrd. Keep one" in text
    assert "sub has 2 volumes and 1 segmentations" in text


def test_a_record_of_another_image_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image = write_case(source)
    write_audit(source / "case1.audit.json", dataclasses.replace(image, origin_mm=(10.0, -20.0, 305.0)), edit(1))
    assert "case1: the record of the clicks is of an image that lies 5.0 mm away" in problems(source, tmp_path)
    write_audit(source / "case1.audit.json", volume(shape=(4, 5, 7)), edit(1))
    assert "[7, 5, 4] voxels, the volume has [6, 5, 4]" in problems(source, tmp_path)


def test_damaged_files_are_named_with_their_case(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source, "a")
    write_case(source, "b")
    (source / "a.audit.json").write_text("{}")
    (source / "b.seg.nrrd").write_bytes(b"NRRD")
    text = problems(source, tmp_path)
    assert "a: a.audit.json is no record of corrections" in text
    assert "b: " in text
    assert "b.seg.nrrd cannot be read" in text


def test_modality_and_licence_must_be_said_by_option_or_manifest(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_case(source)
    with pytest.raises(InvalidInputError, match="--modality CT.*--licence"):
        read_source(source, "corrections")
    (source / "manifest.json").write_text('{"modality": "MR", "licence": "mine", "labels": ["background", "liver"]}')
    data: SourceData = read_source(source, "corrections")
    assert (data.modality, data.licence, data.labels) == ("MR", "mine", ("liver",))


def test_the_command_line_prepares_corrections_and_a_checkpoint_learns_from_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = (3, 32, 32)
    for number in (1, 2):
        image = volume(number, shape)
        image = dataclasses.replace(image, spacing_mm=(5.0, 2.0, 2.0))
        labels = np.zeros(shape, np.uint8)
        labels[:, 8:20, 8:20] = 1
        folder = tmp_path / "source" / f"patient{number}"
        folder.mkdir(parents=True)
        sitk.WriteImage(image_from_array(image.array, image), str(folder / "scan.nrrd"))
        write_segmentation(folder / "organs.seg.nrrd", LabelledVolume(labels, image, {1: describe("liver")}))
        write_audit(folder / "organs.audit.json", image, edit(1))
    command = ["prepare", "corrections", str(tmp_path / "source"), str(tmp_path / "data"), "--modality", "CT"]
    assert main([*command, "--licence", "mine", "--labels", "liver", "--validation", "patient2"]) == 0
    assert "1 train (1 patients), 1 val (1 patients)\nlabels: liver" in capsys.readouterr().out
    torch.manual_seed(0)
    network = NetworkConfig(
        num_classes=3, spa_channels=(8,) * 5, lgfa_width=16, decoder_channels=(8,) * 4, prompt_channels=None
    )
    model = ModelConfig(task="Tiny", labels=("spleen", "liver"), network=network)
    save_checkpoint(
        tmp_path / "tiny.safetensors", UDFA(network), model, Description("CC0", "Tests", {"data_set": "none"})
    )
    fit = ["fit", "--init", str(tmp_path / "tiny.safetensors"), "--data", str(tmp_path / "data"), "--steps", "1"]
    tiny = ["--size", "64", "--batch_size", "1", "--train", "heads", "--accelerator", "cpu", "--workers", "0"]
    assert main([*fit, *tiny, "--output", str(tmp_path / "run")]) == 0
    info = read_info(tmp_path / "run" / "model.safetensors")
    assert (info.config.labels, info.licence) == (("liver",), "CC0; mine")
    assert info.training["validation"] == ["patient2"]
