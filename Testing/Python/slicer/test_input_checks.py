"""Findings about the chosen volume, and the estimate before the run, with numbers that can be checked by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from udfa.config import ModelConfig, NetworkConfig, PreprocessingConfig
from udfa.geometry import Volume
from UDFASegmentationLib import InputChecks
from UDFASegmentationLib.InputChecks import (
    ERROR,
    INFO,
    WARNING,
    DicomFacts,
    Finding,
    checkFrame,
    checkInput,
    checkNode,
    visibleFindings,
)
from UDFASegmentationLib.RunEstimate import durationText, estimateRun, measuredSecondsPerSlice
from UDFASegmentationLib.SequenceFrames import Frame

# Array axes run to superior, posterior, left: already canonical.
CANONICAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def ctConfig(**changes) -> ModelConfig:
    preprocessing = PreprocessingConfig(**{"modality": "CT", "in_plane_spacing_mm": 2.0, **changes})
    return ModelConfig("Abdominal organs (CT)", ("liver",), NetworkConfig(num_classes=2), preprocessing)


def mrConfig(**changes) -> ModelConfig:
    values = {"modality": "MR", "slice_axis": "acquisition", "in_plane_spacing_mm": None, **changes}
    return ModelConfig("Cardiac (MRI)", ("myocardium",), NetworkConfig(num_classes=2), PreprocessingConfig(**values))


def ctVolume(shape=(40, 100, 100), spacing=(3.0, 4.0, 4.0), direction=CANONICAL) -> Volume:
    """Air around a box of soft tissue with a bit of bone: nothing to complain about."""
    array = np.full(shape, -1000, np.int16)
    array[:, 5:-5, 5:-5] = 50
    array[:, 40:44, 40:44] = 900
    return Volume(array, spacing, direction)


def mrVolume(shape=(10, 160, 160), spacing=(8.0, 1.25, 1.25)) -> Volume:
    array = np.random.default_rng(0).integers(0, 800, shape).astype(np.int16)
    return Volume(array, spacing, CANONICAL)


def keys(findings) -> list[str]:
    return [finding.key for finding in findings]


def test_an_ordinary_ct_and_an_ordinary_cine_stack_have_no_findings():
    assert checkInput(ctVolume(), ctConfig()) == []
    assert checkInput(mrVolume(), mrConfig()) == []


def test_a_volume_that_cannot_be_segmented_gives_one_error():
    broken = mrVolume()
    array = broken.array.astype(np.float32)
    array[0, 0, 0] = np.nan
    findings = checkInput(Volume(array, broken.spacing_mm, CANONICAL), mrConfig())
    assert [(finding.severity, finding.key) for finding in findings] == [(ERROR, "unusable")]
    assert "1 voxels are NaN" in findings[0].text


def test_an_mr_given_to_a_ct_model_is_a_warning():
    findings = checkInput(mrVolume((40, 160, 160), (3.0, 2.0, 2.0)), ctConfig())
    assert keys(findings) == ["modality"]
    assert findings[0].severity == WARNING


def test_dicom_knows_the_modality_better_than_the_voxels():
    findings = checkInput(ctVolume(), ctConfig(), DicomFacts(modality="MR"))
    assert keys(findings) == ["modality"]
    assert "this is MR" in findings[0].text
    assert checkInput(ctVolume(), ctConfig(), DicomFacts(modality="ct ")) == []


def test_a_ct_stored_without_its_offset_gets_the_number_to_subtract():
    volume = ctVolume()
    shifted = Volume((volume.array + 1024).astype(np.int16), volume.spacing_mm, CANONICAL)
    findings = checkInput(shifted, ctConfig())
    assert keys(findings) == ["modality"]
    assert "subtract 1024" in findings[0].advice
    assert "subtract" not in checkInput(mrVolume((40, 160, 160), (3.0, 2.0, 2.0)), ctConfig())[0].advice


def test_a_ct_that_was_windowed_narrower_than_the_model_needs_is_told():
    volume = ctVolume()
    narrow = Volume(np.clip(volume.array, -60, 100), volume.spacing_mm, CANONICAL)
    findings = checkInput(narrow, ctConfig())
    assert keys(findings) == ["intensity"]
    assert "-60 to 100 HU" in findings[0].text
    assert "-125 to 275 HU" in findings[0].text


def test_a_ct_windowed_exactly_to_the_model_is_fine():
    volume = ctVolume()
    clipped = Volume(np.clip(volume.array, -125, 275), volume.spacing_mm, CANONICAL)
    assert checkInput(clipped, ctConfig()) == []


def test_an_almost_empty_mr_is_told():
    volume = mrVolume()
    array = np.zeros_like(volume.array)
    array[:, :20, :20] = 100
    findings = checkInput(Volume(array, volume.spacing_mm, CANONICAL), mrConfig())
    assert keys(findings) == ["intensity"]
    assert "98%" in findings[0].text


def test_a_volume_that_lost_its_spacing_is_told():
    findings = checkInput(mrVolume(spacing=(1.0, 1.0, 1.0)), mrConfig())
    assert "spacing" in keys(findings)
    assert "mL will be wrong" in findings[keys(findings).index("spacing")].advice


def test_pixels_twice_as_coarse_as_the_model_are_told():
    assert "pixels" in keys(checkInput(ctVolume(spacing=(3.0, 4.1, 4.1)), ctConfig()))
    assert "pixels" not in keys(checkInput(ctVolume(spacing=(3.0, 4.0, 4.0)), ctConfig()))


def test_a_coronal_series_given_to_an_axial_model_is_told():
    # 100 coronal slices, 6 mm apart: axial pixels of 6 x 2 mm.
    findings = checkInput(ctVolume((60, 50, 150), (2.0, 6.0, 2.0)), ctConfig())
    assert "plane" in keys(findings)
    assert "6.0 x 2.0 mm" in findings[keys(findings).index("plane")].text


def test_thick_ct_slices_are_told():
    assert keys(checkInput(ctVolume(spacing=(10.0, 4.0, 4.0)), ctConfig())) == ["thickness"]


def test_a_cine_series_stored_as_slices_is_told():
    findings = checkInput(mrVolume((25, 160, 160), (1.3, 1.25, 1.25)), mrConfig())
    assert keys(findings) == ["thickness"]
    assert "volume sequence" in findings[0].advice


def test_a_narrow_and_a_short_field_of_view_are_told_in_millimetres():
    findings = checkInput(ctVolume((20, 100, 100), (3.0, 2.0, 2.0)), ctConfig())
    assert keys(findings) == ["view", "coverage"]
    assert "200 x 200 mm" in findings[0].text
    assert "60 mm" in findings[1].text


def test_a_single_slice_is_told_to_a_model_that_looks_at_neighbours():
    assert keys(checkInput(ctVolume((1, 100, 100)), ctConfig())) == ["slices"]
    assert checkInput(ctVolume((1, 100, 100)), ctConfig(in_slices=1)) == []


@pytest.mark.parametrize(("degrees", "expected"), [(10, []), (20, ["tilt"])])
def test_tilted_slices_are_told_from_15_degrees(degrees, expected):
    angle = np.radians(degrees)
    # Slices advance to superior and a bit to posterior; rows likewise tilted; columns to left.
    direction = np.array([[0.0, 0.0, 1.0], [np.sin(angle), np.cos(angle), 0.0], [np.cos(angle), -np.sin(angle), 0.0]])
    findings = checkInput(ctVolume(direction=direction), ctConfig())
    assert keys(findings) == expected
    assert all(f"{degrees} degrees" in finding.text for finding in findings)


def test_the_tilt_of_a_short_axis_stack_is_normal():
    angle = np.radians(40)
    direction = np.array([[0.0, 0.0, 1.0], [np.sin(angle), np.cos(angle), 0.0], [np.cos(angle), -np.sin(angle), 0.0]])
    volume = mrVolume()
    assert checkInput(Volume(volume.array, volume.spacing_mm, direction), mrConfig()) == []


@pytest.mark.parametrize(
    ("description", "agent", "told"),
    [
        ("Abdomen native 3mm", "", True),
        ("ABD W/O CONTRAST", "", True),
        ("Abdomen without", "APPLIED", False),
        ("Abdomen arterial 1.0", "Iomeron", True),
        ("CTA Aorta", "", True),
        ("Abdomen portalvenoes", "Iomeron", False),
        ("Abdomen", "", False),
        ("", "", False),
        ("Ncurse start", "", False),
    ],
)
def test_the_contrast_phase_is_told_only_where_the_description_tells_it(description, agent, told):
    findings = checkInput(ctVolume(), ctConfig(), DicomFacts("CT", description, agent))
    assert keys(findings) == (["contrast"] if told else [])
    assert all(finding.severity == INFO for finding in findings)


def test_contrast_is_not_a_matter_of_mr():
    assert checkInput(mrVolume(), mrConfig(), DicomFacts("MR", "cine native", "")) == []


def test_dismissed_findings_vanish_but_errors_stay_and_the_worst_comes_first():
    info, warning, error = Finding(INFO, "a", "A"), Finding(WARNING, "b", "B"), Finding(ERROR, "c", "C")
    assert visibleFindings([info, warning, error], ()) == [error, warning, info]
    assert visibleFindings([info, warning, error], ("a", "c")) == [error, warning]


def test_only_one_frame_of_a_sequence_is_segmented_and_that_is_told():
    assert checkFrame(None) == checkFrame(Frame(0, 1)) == []
    assert "frame 3 of 20, phase 120 ms" in checkFrame(Frame(2, 20, "phase 120 ms"))[0].text


class Node:
    """A node of a class that slicer-core does not have."""

    def __init__(self, className):
        self.className = className

    def IsA(self, name):
        return name == self.className

    def GetName(self):
        return "cine"


def test_a_multi_volume_gets_the_setting_that_makes_it_a_sequence():
    (finding,) = checkNode(Node("vtkMRMLMultiVolumeNode"))
    assert finding.severity == ERROR
    assert "volume sequence" in finding.advice


def test_nothing_chosen_is_an_error_with_advice():
    assert keys(checkNode(None)) == ["noVolume"]


# Estimate


def test_the_estimate_counts_slices_and_tiles_as_the_run_does():
    # 512 pixels of 1 mm become 256 pixels of 2 mm: one tile of 256.
    volume = Volume(np.zeros((100, 512, 512), np.int16), (3.0, 1.0, 1.0), CANONICAL)
    estimate = estimateRun(volume, ctConfig(crop_to_body=False), secondsPerSlice=0.5)
    assert (estimate.slices, estimate.tilesPerSlice, estimate.tileSide) == (100, 1, 256)
    assert estimate.networkShape == (256, 256)
    assert estimate.seconds == pytest.approx(50.0)
    assert estimate.measured


def test_slices_larger_than_the_tile_cost_several_tiles():
    # 384 pixels, tile 256, overlap one half: starts 0 and 128 in both directions.
    volume = Volume(np.zeros((10, 384, 384), np.int16), (3.0, 2.0, 2.0), CANONICAL)
    estimate = estimateRun(volume, ctConfig(crop_to_body=False), secondsPerSlice=0.5)
    assert estimate.tilesPerSlice == 4
    assert estimate.seconds == pytest.approx(10 * 4 * 0.5)


def test_small_slices_cost_less_in_proportion_to_their_pixels():
    volume = Volume(np.zeros((10, 192, 192), np.int16), (3.0, 2.0, 2.0), CANONICAL)
    estimate = estimateRun(volume, ctConfig(crop_to_body=False), secondsPerSlice=0.5)
    assert (estimate.tileSide, estimate.seconds) == (192, pytest.approx(10 * 0.75**2 * 0.5))


def test_the_air_around_the_patient_costs_nothing():
    array = np.full((10, 400, 400), -1000, np.int16)
    array[:, 100:300, 150:250] = 50
    volume = Volume(array, (3.0, 2.0, 2.0), CANONICAL)
    # 200 x 100 pixels and a margin of 4 on each side.
    assert estimateRun(volume, ctConfig()).networkShape == (208, 108)


def test_slices_are_counted_along_the_axis_that_the_model_uses():
    # Sagittal storage: axis 0 runs to left, axis 1 to superior.
    sagittal = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    volume = Volume(np.zeros((30, 50, 70), np.int16), (4.0, 3.0, 2.0), sagittal)
    assert estimateRun(volume, ctConfig(crop_to_body=False)).slices == 50


def test_without_a_measured_speed_the_cpu_estimate_is_called_rough_and_a_graphics_card_unknown():
    volume = Volume(np.zeros((100, 256, 256), np.int16), (3.0, 2.0, 2.0), CANONICAL)
    config = ctConfig(crop_to_body=False)
    rough = estimateRun(volume, config)
    assert not rough.measured
    assert rough.text().startswith("100 slices: very roughly 30 s")
    automatic = estimateRun(volume, config, device="auto")
    assert automatic.text().startswith("100 slices: very roughly 30 s without a graphics card, about")
    assert estimateRun(volume, config, 0.1, "auto").text().startswith("100 slices: about 10 s, about")
    unknown = estimateRun(volume, config, device="cuda:0")
    assert unknown.seconds is None
    assert "after the first run" in unknown.text()


def test_memory_grows_by_the_voxels_that_are_added():
    config = ctConfig(crop_to_body=False)

    def memory(depth, dtype):
        return estimateRun(Volume(np.zeros((depth, 64, 64), dtype), (3.0, 2.0, 2.0), CANONICAL), config).memoryBytes

    # 10 slices of 64 x 64 voxels: two bytes each for the copy, one for labels, one for uncertainty.
    assert memory(20, np.int16) - memory(10, np.int16) == 10 * 64 * 64 * 4
    assert memory(10, np.float32) - memory(10, np.int16) == 10 * 64 * 64 * 2


def test_a_finished_run_gives_the_speed_that_predicts_it():
    volume = Volume(np.zeros((10, 384, 384), np.int16), (3.0, 2.0, 2.0), CANONICAL)
    config = ctConfig(crop_to_body=False)
    speed = measuredSecondsPerSlice(estimateRun(volume, config), 26.0)
    assert speed == pytest.approx(26.0 / 40)
    assert estimateRun(volume, config, speed).seconds == pytest.approx(26.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than a second"), (8.4, "8 s"), (89, "89 s"), (100, "2 min"), (5400, "1 h 30 min"), (3600, "60 min")],
)
def test_durations_read_naturally(seconds, text):
    assert durationText(seconds) == text


def test_checks_and_estimate_work_before_torch_is_installed():
    folder = Path(InputChecks.__file__).parent.parent
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import UDFASegmentationLib.InputChecks, "
        "UDFASegmentationLib.RunEstimate, UDFASegmentationLib.Settings, UDFASegmentationLib.Installation; "
        "print([m for m in ('torch', 'timm', 'qt', 'slicer', 'vtk') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
