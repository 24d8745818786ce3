"""The bundled checkpoint: complete, small enough, and as good on real cases as the README says at least."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from udfa.checkpoint import Checkpoint, load_checkpoint
from udfa.inference import Segmenter
from udfa.labels import KNOWN_LABELS
from udfa.metrics import dice_per_label
from udfa.models import bundled_folder, check_pins
from udfa.volume_io import read_volume, volume_from_image
from udfa_training.label_names import SYNAPSE_ORDERS

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "Resources" / "sample"
SAMPLE_CINE = ROOT / "UDFASegmentation" / "Resources" / "SampleData" / "cardiac_cine.seq.nrrd"
BTCV = ROOT.parent / "shared" / "data" / "btcv" / "train"
ACDC = ROOT.parent / "shared" / "data" / "acdc" / "val"
MSCMR = ROOT.parent / "shared" / "data" / "mscmr"
TRANSUNET_ORGANS = SYNAPSE_ORDERS["transunet"]
"""The 8 organs on which the Synapse benchmark is reported."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(bundled_folder() / "abdomen-ct-mini.safetensors")


@pytest.fixture(scope="module")
def cardiac() -> Checkpoint:
    return load_checkpoint(bundled_folder() / "cardiac-mr-mini.safetensors")


def scores(checkpoint: Checkpoint, image: Path, reference: Path) -> dict[str, float]:
    """Dice of each label of one case, by name."""
    labels = checkpoint.info.config.labels
    result = Segmenter.from_checkpoint(checkpoint).segment(read_volume(image))
    by_value = dice_per_label(result.labelmap, read_volume(reference).array.astype(np.uint8), range(1, len(labels) + 1))
    return {labels[value - 1]: score for value, score in by_value.items()}


def test_bundled_files_are_those_that_models_json_pins() -> None:
    assert check_pins(bundled_folder()) == []


def test_the_checkpoint_is_complete_and_small(checkpoint: Checkpoint) -> None:
    info = checkpoint.info
    assert info.size_bytes <= 15_000_000
    assert info.backbone_inside
    assert len(info.labels) == 13
    assert all(label == KNOWN_LABELS[label.name] for label in info.labels)
    assert "research use only" in info.licence.lower()
    assert "not a medical device" in info.intended_use.lower()
    assert len(info.training["train"]) == 15
    assert len(info.training["validation"]) == 3
    assert not set(info.training["train"]) & set(info.training["validation"])
    assert info.training["backbone"].startswith("mini: trained by this project")
    assert info.commit


@pytest.mark.parametrize("name", ["checkpoint", "cardiac"])
def test_the_bundled_models_have_learned_to_take_clicks(name: str, request: pytest.FixtureRequest) -> None:
    encoder = request.getfixturevalue(name).network.prompt_encoder
    assert encoder is not None
    # They start at zero.
    assert all(float(layer.weight.abs().mean()) > 1e-3 for layer in (*encoder.to_skip, encoder.to_output))


def test_it_finds_the_large_organs_of_the_bundled_ct(checkpoint: Checkpoint) -> None:
    found = scores(checkpoint, SAMPLE / "abdomen_ct.nii.gz", SAMPLE / "abdomen_ct_reference.nii.gz")
    assert found["liver"] >= 0.88
    assert {name: found[name] >= 0.80 for name in ("spleen", "right_kidney", "left_kidney")} == {
        "spleen": True,
        "right_kidney": True,
        "left_kidney": True,
    }


@pytest.mark.skipif(not BTCV.is_dir(), reason="the BTCV cases are not beside the repository (../shared/data/btcv)")
def test_it_segments_a_held_out_patient_as_well_as_promised(checkpoint: Checkpoint) -> None:
    case = "btcv0027"
    assert case in checkpoint.info.training["validation"]
    found = scores(checkpoint, BTCV / f"{case}_image.nii.gz", BTCV / f"{case}_label.nii.gz")
    assert np.nanmean([found[name] for name in TRANSUNET_ORGANS]) >= 0.65


def test_the_cardiac_checkpoint_is_complete_and_small(cardiac: Checkpoint) -> None:
    info = cardiac.info
    assert info.size_bytes <= 15_000_000
    assert [label.name for label in info.labels] == ["right_ventricle", "myocardium", "left_ventricle"]
    assert "non-commercial" in info.licence.lower()
    assert "not a medical device" in info.intended_use.lower()
    assert (len(info.training["train"]), len(info.training["validation"])) == (70, 10)
    assert not set(info.training["train"]) & set(info.training["validation"])


@pytest.mark.skipif(not ACDC.is_dir(), reason="the ACDC cases are not beside the repository (../shared/data/acdc)")
def test_it_segments_the_heart_of_a_held_out_patient(cardiac: Checkpoint) -> None:
    case = sorted(ACDC.glob("*_image.nii.gz"))[0].name[: -len("_image.nii.gz")]
    assert case.split("_")[0] in cardiac.info.training["validation"]
    found = scores(cardiac, ACDC / f"{case}_image.nii.gz", ACDC / f"{case}_label.nii.gz")
    assert np.mean(list(found.values())) >= 0.80


@pytest.mark.skipif(
    not MSCMR.is_dir(), reason="the MS-CMRSeg cases are not beside the repository (../shared/data/mscmr)"
)
def test_it_segments_an_oblique_heart_from_another_scanner(cardiac: Checkpoint) -> None:
    found = scores(cardiac, MSCMR / "case04_image.nii.gz", MSCMR / "case04_label.nii.gz")
    assert np.mean(list(found.values())) >= 0.80


def test_a_heart_cropped_closely_is_found_as_in_the_whole_image(cardiac: Checkpoint) -> None:
    """Networks that see less than they know from training find hardly anything."""
    phase = sitk.VectorIndexSelectionCast(sitk.ReadImage(str(SAMPLE_CINE)), 0)
    whole = volume_from_image(phase, SAMPLE_CINE.name)
    segmenter = Segmenter.from_checkpoint(cardiac)
    expected = segmenter.segment(whole).labelmap
    row, column = (round(float(places.mean())) - 48 for places in np.nonzero(expected)[1:])
    part = np.s_[:, row : row + 96, column : column + 96]
    found = segmenter.segment(replace(whole, array=np.ascontiguousarray(whole.array[part]))).labelmap
    agreement = dice_per_label(found, expected[part], (2, 3))
    assert min(agreement.values()) >= 0.8, agreement
