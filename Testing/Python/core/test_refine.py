"""`udfa refine`, end to end: a real (untrained) network corrects stored segmentations."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fakes.clicks import click_config, wake_prompt_encoder
from udfa.audit import ijk_to_ras, read_audit
from udfa.checkpoint import Description, read_info, save_checkpoint
from udfa.cli import main
from udfa.geometry import Volume
from udfa.labels import describe
from udfa.networks.udfa import UDFA
from udfa.segmentation_file import LabelledVolume, write_segmentation
from udfa.segmentation_reader import read_segmentation
from udfa.volume_io import read_volume, write_array

LIVER, SPLEEN, STOMACH, TUMOUR = 1, 2, 3, 9
SHAPE = (6, 40, 48)


@dataclass(frozen=True)
class Case:
    """A checkpoint, an oblique CT, and its segmentation with a tumour that the model does not know."""

    folder: Path
    model: Path
    image: Path
    segmentation: Path
    volume: Volume
    labelmap: np.ndarray

    def arguments(self, *more: str, segmentation: Path | None = None, output: str = "out.seg.nrrd") -> list[str]:
        files = [str(self.image), str(segmentation or self.segmentation), "--output", str(self.folder / output)]
        return ["refine", *files, "--model", str(self.model), "--device", "cpu", "--precision", "float32", *more]

    def ras(self, voxel: tuple[int, int, int]) -> str:
        """A place a little off the centre of a voxel (D, H, W), as text."""
        k, j, i = voxel
        x, y, z = (ijk_to_ras(self.volume) @ [i + 0.3, j - 0.3, k + 0.2, 1])[:3]
        return f"{x:.3f},{y:.3f},{z:.3f}"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = click_config(in_plane_spacing_mm=2.0)
    torch.manual_seed(0)
    network = UDFA(config.network)
    wake_prompt_encoder(network)
    path = tmp_path_factory.mktemp("model") / "clicks.safetensors"
    save_checkpoint(path, network, config, Description("CC0", "Tests only"))
    return path


@pytest.fixture
def case(tmp_path: Path, checkpoint: Path) -> Case:
    labelmap = np.zeros(SHAPE, np.uint8)
    labelmap[1:5, 8:30, 6:24] = LIVER
    labelmap[1:5, 8:30, 24:36] = SPLEEN
    labelmap[2:4, 12:18, 10:14] = TUMOUR
    hu = np.random.default_rng(0).normal(labelmap * 60.0 - 30, 10).astype(np.int16)
    c, s = np.cos(0.2), np.sin(0.2)
    direction = np.array([[0, 0, 1.0], [-s, c, 0], [c, s, 0]])
    volume = Volume(hu, (3.0, 1.5, 1.25), direction, (20.0, 40.0, -300.0))
    write_array(tmp_path / "ct.nii.gz", hu, volume)
    names = {LIVER: "liver", SPLEEN: "spleen", STOMACH: "stomach", TUMOUR: "tumour"}
    content = LabelledVolume(labelmap, volume, {v: describe(n) for v, n in names.items()}, {"made": "by hand"})
    write_segmentation(tmp_path / "organs.seg.nrrd", content)
    write_segmentation(tmp_path / "organs.nii.gz", content)
    return Case(tmp_path, checkpoint, tmp_path / "ct.nii.gz", tmp_path / "organs.seg.nrrd", volume, labelmap)


def result_of(path: Path, volume: Volume) -> dict[str, np.ndarray]:
    """Segment id to mask on the volume's grid."""
    segmentation = read_segmentation(path)
    return {segment.id: segmentation.mask(segment, volume) for segment in segmentation.segments}


@pytest.mark.parametrize("output", ["out.seg.nrrd", "out.nii.gz", "out.nrrd"])
def test_clicks_in_ras_correct_the_segmentation_and_keep_the_rest(case: Case, output: str) -> None:
    inside, outside = (3, 20, 8), (3, 20, 42)
    clicks = ["--click", f"{case.ras(outside)},liver,+", "--click", f"{case.ras(inside)},liver,-"]
    assert main(case.arguments(*clicks, output=output)) == 0
    masks = result_of(case.folder / output, case.volume)
    assert masks["liver"][outside]
    assert not masks["liver"][inside]
    assert (masks["tumour"] == (case.labelmap == TUMOUR)).all()
    record = read_audit((case.folder / "out.audit.json").read_text(encoding="utf-8"))
    assert [edit.clicks[0].ijk for edit in record.edits] == [(42, 20, 3), (8, 20, 3)]
    assert [edit.sign for edit in record.edits] == ["+", "-"]
    assert all(edit.changed_voxels > 0 for edit in record.edits)


def test_indices_give_the_same_as_places_in_mm(case: Case) -> None:
    voxel = (3, 20, 42)
    assert main(case.arguments("--click", f"{case.ras(voxel)},spleen,+", output="mm.seg.nrrd")) == 0
    indices = ["--coordinates", "ijk", "--click", "42,20,3,spleen,+"]
    assert main(case.arguments(*indices, output="ijk.seg.nrrd")) == 0
    results = [result_of(case.folder / name, case.volume) for name in ("mm.seg.nrrd", "ijk.seg.nrrd")]
    assert results[0]["spleen"][voxel]
    assert all((results[0][name] == results[1][name]).all() for name in results[0])


def test_a_place_with_a_minus_sign_needs_no_equals_sign(case: Case) -> None:
    place = case.ras((3, 20, 42))
    assert place.startswith("-")
    assert main(case.arguments("--click", f"{place},spleen,+")) == 0


def test_a_labelmap_with_its_json_is_read_too_and_titles_stay(case: Case) -> None:
    document = json.loads((case.folder / "organs.json").read_text())
    document["labels"][0].update(title="Leber", color=[1, 2, 3])
    (case.folder / "organs.json").write_text(json.dumps(document))
    arguments = case.arguments(
        "--coordinates", "ijk", "--click", "42,20,3,liver,+", segmentation=case.folder / "organs.nii.gz"
    )
    assert main(arguments) == 0
    liver = next(s for s in read_segmentation(case.folder / "out.seg.nrrd").segments if s.id == "liver")
    assert (liver.title, liver.color) == ("Leber", (1, 2, 3))
    assert liver.terminology == describe("liver").terminology()


def test_a_label_that_the_segmentation_lacks_can_be_added(case: Case) -> None:
    assert main(case.arguments("--coordinates", "ijk", "--click", "42,35,5,stomach,+")) == 0
    masks = result_of(case.folder / "out.seg.nrrd", case.volume)
    assert masks["stomach"][5, 35, 42]
    assert read_segmentation(case.folder / "out.seg.nrrd").find(describe("stomach")) is not None


def test_locked_labels_do_not_change_and_the_summary_says_what_happened(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks = ["--click", "30,20,3,liver,+", "--click", "42,20,3,liver,+"]
    assert main(case.arguments("--coordinates", "ijk", "--lock", "spleen,stomach", *clicks)) == 0
    masks = result_of(case.folder / "out.seg.nrrd", case.volume)
    assert (masks["spleen"] == (case.labelmap == SPLEEN)).all()
    assert masks["liver"][3, 20, 42]
    out, err = capsys.readouterr()
    assert "1: +liver: The clicked voxel belongs to a label that is locked" in out
    assert re.search(r"2: \+liver: liver \+[\d,]+ \(\+\d+\.\d\d mL\) in \d slices?, \d+ ms", out)
    assert "warning: click 1 changes nothing" in err


def test_carrying_nowhere_changes_one_slice(case: Case) -> None:
    assert main(case.arguments("--coordinates", "ijk", "--carry", "0", "--click", "42,20,3,liver,+")) == 0
    changed = result_of(case.folder / "out.seg.nrrd", case.volume)["liver"] != (case.labelmap == LIVER)
    assert np.flatnonzero(changed.any(axis=(1, 2))).tolist() == [3]


def test_the_result_says_where_it_comes_from(case: Case) -> None:
    assert main(case.arguments("--coordinates", "ijk", "--click", "42,20,3,liver,+")) == 0
    provenance = read_segmentation(case.folder / "out.seg.nrrd").provenance
    assert provenance["before"] == {"made": "by hand"}
    assert provenance["corrections"]["clicks"] == 1
    assert provenance["corrections"]["record"] == "out.audit.json"
    assert provenance["checkpoint"]["name"] == "clicks"
    record = read_audit((case.folder / "out.audit.json").read_text())
    assert record.model.content_sha256 == provenance["checkpoint"]["content_sha256"]


def test_the_segmentation_may_be_corrected_in_place_and_the_record_put_elsewhere(case: Case) -> None:
    audit = case.folder / "elsewhere.json"
    arguments = case.arguments(
        "--coordinates", "ijk", "--click", "42,20,3,liver,+", "--audit", str(audit), output="organs.seg.nrrd"
    )
    assert main(arguments) == 0
    assert result_of(case.segmentation, case.volume)["liver"][3, 20, 42]
    assert len(read_audit(audit.read_text()).edits) == 1
    assert not (case.folder / "organs.audit.json").exists()


def test_the_model_that_made_the_segmentation_is_the_default(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named `clicks`; without its name in the segmentation, the bundled model for the abdomen is meant."""
    monkeypatch.setenv("UDFA_MODELS", str(case.model.parent))
    click = ["--click", "42,20,3,stomach,+", "--coordinates", "ijk", "--output", str(case.folder / "out.seg.nrrd")]
    arguments = ["refine", str(case.image), str(case.segmentation), *click]
    made_by = {"checkpoint": {"name": "clicks", "content_sha256": read_info(case.model).content_sha256}}
    content = LabelledVolume(case.labelmap, case.volume, {LIVER: describe("liver")}, made_by)
    write_segmentation(case.folder / "organs.seg.nrrd", content)
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "Loading clicks" in output.err
    assert "was made by" not in output.err


@pytest.mark.parametrize(("own", "warned"), [(False, True), (True, False)])
def test_a_segmentation_of_another_model_is_corrected_with_a_warning(
    case: Case, own: bool, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    content_sha256 = read_info(case.model).content_sha256 if own else "0" * 64
    made_by = {"checkpoint": {"name": "chest", "content_sha256": content_sha256}}
    content = LabelledVolume(case.labelmap, case.volume, {LIVER: describe("liver")}, made_by)
    write_segmentation(case.folder / "organs.seg.nrrd", content)
    assert main(case.arguments("--coordinates", "ijk", "--click", "42,20,3,liver,+")) == 0
    assert ("was made by chest" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--click", "42,20,3,lung,+"], "has no label 'lung'. It has: liver, spleen, stomach"),
        (["--click", "42,20,3,liver,+", "--lock", "lung"], "has no label 'lung'"),
        (["--click", "48,20,3,liver,+"], r"outside the volume of \(48, 40, 6\) voxels"),
        (["--click", "4.5,20,3,liver,+"], "no whole numbers"),
    ],
)
def test_a_click_that_makes_no_sense_is_refused_and_nothing_is_written(
    case: Case, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in case.folder.iterdir())
    assert main(case.arguments("--coordinates", "ijk", *more)) == 1
    assert re.search(message, capsys.readouterr().err)
    assert sorted(path.name for path in case.folder.iterdir()) == before


@pytest.mark.parametrize(
    "click", ["1,2,liver,+", "1,2,3,liver", "1,2,3,liver,*", "a,2,3,liver,+", "nan,2,3,liver,+", ""]
)
def test_a_click_of_another_form_is_wrong_usage(case: Case, click: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(case.arguments("--click", click))
    assert stop.value.code == 2
    assert "x,y,z,LABEL" in capsys.readouterr().err


def test_without_a_click_the_usage_is_wrong(case: Case) -> None:
    with pytest.raises(SystemExit) as stop:
        main(case.arguments())
    assert stop.value.code == 2


def test_another_volume_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(case.volume, spacing_mm=(3.0, 1.5, 1.5))
    write_array(case.image, case.volume.array, other)
    assert main(case.arguments("--coordinates", "ijk", "--click", "42,20,3,liver,+")) == 1
    assert "different grids" in capsys.readouterr().err
    assert not (case.folder / "out.seg.nrrd").exists()


def test_a_volume_that_cannot_be_segmented_cannot_be_corrected_either(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise one NaN would decide what the network says of its slice; and MR given to a CT model has its warning."""
    click = ("--coordinates", "ijk", "--click", "42,20,3,liver,+")
    broken = case.volume.array.astype(np.float32)
    broken[3, 0, 0] = np.nan
    image = case.folder / "broken.nrrd"
    write_array(image, broken, case.volume)
    assert main(replace(case, image=image).arguments(*click)) == 1
    assert "1 voxels are NaN or infinite" in capsys.readouterr().err
    assert not (case.folder / "out.seg.nrrd").exists()
    write_array(image, np.abs(case.volume.array), case.volume)
    assert main(replace(case, image=image).arguments(*click)) == 0
    assert "warning: This model expects CT in Hounsfield units" in capsys.readouterr().err


def test_the_image_is_never_overwritten(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_volume(case.image).array
    arguments = case.arguments("--coordinates", "ijk", "--click", "42,20,3,liver,+", output="ct.nii.gz")
    assert main(arguments) == 1
    assert "named twice" in capsys.readouterr().err
    assert (read_volume(case.image).array == before).all()


def test_a_labelmap_never_takes_the_json_of_another(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """`organs.nii.gz` and `organs.nrrd` would share `organs.json`."""
    click = ("--coordinates", "ijk", "--click", "42,20,3,liver,+")
    labels = (case.folder / "organs.json").read_bytes()
    assert main(case.arguments(*click, output="organs.nrrd")) == 1
    message = "organs.json describes the labels of organs.nii.gz and would be overwritten by the labels of organs.nrrd"
    assert message in capsys.readouterr().err
    assert (case.folder / "organs.json").read_bytes() == labels
    assert not (case.folder / "organs.nrrd").exists()
    assert main(case.arguments(*click, output="organs.nii.gz")) == 0
    (case.folder / "organs.nii.gz").unlink()
    assert main(case.arguments(*click, output="organs.nrrd")) == 0


def test_a_model_that_takes_no_clicks_is_refused(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = click_config()
    config = replace(config, network=replace(config.network, prompt_channels=None))
    torch.manual_seed(0)
    model = tmp_path / "plain.safetensors"
    save_checkpoint(model, UDFA(config.network), config, Description("CC0", "Tests only"))
    arguments = [*case.arguments("--coordinates", "ijk", "--click", "42,20,3,liver,+"), "--model", str(model)]
    assert main(arguments) == 1
    assert "takes no clicks" in capsys.readouterr().err


def test_quiet_prints_nothing(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(case.arguments("--coordinates", "ijk", "--quiet", "--click", "42,20,3,liver,+")) == 0
    assert capsys.readouterr() == ("", "")


def test_slicers_own_layout_of_a_cropped_segmentation_is_accepted(case: Case) -> None:
    """Slicer stores only the part of the grid that has segments."""
    image = sitk.ReadImage(str(case.segmentation))
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    part = sitk.RegionOfInterest(image, [32, 24, 5], [5, 7, 1])
    for key, value in keys.items():
        part.SetMetaData(key, re.sub(r"^0 47 0 39 0 5$", "0 31 0 23 0 4", value) if "Extent" in key else value)
    sitk.WriteImage(part, str(case.folder / "part.seg.nrrd"))
    arguments = case.arguments(
        "--coordinates", "ijk", "--click", "42,20,3,liver,+", segmentation=case.folder / "part.seg.nrrd"
    )
    assert main(arguments) == 0
    masks = result_of(case.folder / "out.seg.nrrd", case.volume)
    assert masks["liver"][3, 20, 42]
    assert (masks["tumour"] == (case.labelmap == TUMOUR)).all()
    assert masks["tumour"].shape == SHAPE


def test_a_second_correction_goes_on_with_the_record_of_the_first(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(case.arguments("--click", f"{case.ras((3, 20, 42))},liver,+")) == 0
    first = case.folder / "out.seg.nrrd"
    capsys.readouterr()
    assert (
        main(case.arguments("--click", f"{case.ras((3, 20, 8))},liver,-", segmentation=first, output="two.seg.nrrd"))
        == 0
    )
    edits = read_audit((case.folder / "two.audit.json").read_text(encoding="utf-8")).edits
    assert [(edit.number, edit.sign) for edit in edits] == [(1, "+"), (2, "-")]
    # The summary tells of this run only.
    printed = capsys.readouterr().out
    assert "2: -liver" in printed
    assert "1: +liver" not in printed


@pytest.mark.parametrize(
    "damage", [lambda text: text.replace("udfa-audit", "x"), lambda text: text.replace("-300", "-301")]
)
def test_a_record_that_cannot_go_on_is_never_overwritten(
    case: Case, damage: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(case.arguments("--click", f"{case.ras((3, 20, 42))},liver,+")) == 0
    first, record = case.folder / "out.seg.nrrd", case.folder / "out.audit.json"
    record.write_text(damage(record.read_text(encoding="utf-8")), encoding="utf-8")
    before, stored = record.read_bytes(), first.read_bytes()
    again = case.arguments("--click", f"{case.ras((3, 20, 8))},liver,-", segmentation=first)
    assert main(again) != 0
    assert "--audit" in capsys.readouterr().err
    assert (record.read_bytes(), first.read_bytes()) == (before, stored)
    assert main([*again, "--audit", str(case.folder / "new.json")]) == 0
    assert record.read_bytes() == before


def test_a_result_never_takes_the_record_of_a_segmentation_with_the_same_stem(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    click = ("--click", f"{case.ras((3, 20, 42))},liver,+")
    assert main(case.arguments(*click, output="out.seg.nrrd")) == 0
    record = case.folder / "out.audit.json"
    before = record.read_bytes()
    assert main(case.arguments(*click, output="out.nii.gz")) == 1
    assert "record of another segmentation" in capsys.readouterr().err
    assert record.read_bytes() == before
    assert not (case.folder / "out.nii.gz").exists()
    # What is written anew may have its own record written anew.
    assert main(case.arguments(*click, output="out.seg.nrrd")) == 0


@pytest.mark.parametrize("victim", ["organs.json", "copy.safetensors"])
def test_the_record_overwrites_neither_the_labels_nor_the_model(case: Case, victim: str) -> None:
    shutil.copy(case.model, case.folder / "copy.safetensors")
    before = (case.folder / victim).read_bytes()
    used = replace(case, model=case.folder / "copy.safetensors", segmentation=case.folder / "organs.nii.gz")
    more = ("--click", f"{case.ras((3, 20, 42))},liver,+", "--audit", str(case.folder / victim))
    assert main(used.arguments(*more)) == 1
    assert (case.folder / victim).read_bytes() == before
