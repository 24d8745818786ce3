"""Checks of the chosen volume before a run, in plain words, so that a wrong result never comes without a warning.

`udfa.checks` looks at the voxels; here the image's place, extent and origin are looked at, and what DICOM says of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from udfa.checks import check_volume
from udfa.config import ModelConfig
from udfa.errors import InvalidInputError
from udfa.geometry import Volume, canonical_orientation, reorient

if TYPE_CHECKING:
    from UDFASegmentationLib.SequenceFrames import Frame

ERROR, WARNING, INFO = "error", "warning", "info"

TILT_DEGREES = 15.0
"""Tilt of the slices against the patient's axis from which a CT model is outside of what it has seen."""

ABDOMEN_WIDTH_MM, ABDOMEN_LENGTH_MM = 250.0, 80.0
HEART_WIDTH_MM = 150.0
THICK_CT_SLICE_MM = 7.5
THIN_CINE_SLICE_MM = 3.0
SHIFTED_TISSUE = (900.0, 1200.0)
"""Range of soft tissue in CT that was stored without subtracting 1024."""

SAMPLE_VOXELS = 500_000
"""About this many voxels enter the statistics of intensities."""


@dataclass(frozen=True)
class Finding:
    """Something about the input that the user should know."""

    severity: str
    """error: the run would fail; warning: the result may be wrong; info: good to know."""
    key: str
    """Stable name by which a finding is dismissed."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty when the text says it."""

    def sentence(self) -> str:
        """Return text and advice."""
        return f"{self.text} {self.advice}".strip()


@dataclass(frozen=True)
class DicomFacts:
    """What DICOM says of a volume; empty where nothing is known."""

    modality: str = ""
    """(0008,0060), such as CT."""
    description: str = ""
    """(0008,103E), series description."""
    contrastAgent: str = ""
    """(0018,0010)."""


def visibleFindings(findings: Collection[Finding], dismissed: Collection[str]) -> list[Finding]:
    """Return findings that were not dismissed, worst first. Errors cannot be dismissed."""
    order = {ERROR: 0, WARNING: 1, INFO: 2}
    shown = [finding for finding in findings if finding.severity == ERROR or finding.key not in dismissed]
    return sorted(shown, key=lambda finding: order[finding.severity])


def checkNode(node: Any) -> list[Finding]:
    """Check the kind of a node, without touching its voxels.

    Args:
        node: The node that was chosen, or None.
    """
    if node is None:
        return [Finding(ERROR, "noVolume", "No volume is selected.", "Choose the CT or MR volume to segment.")]
    name = f"'{node.GetName()}'"
    for className, text, advice in _UNSUITABLE_NODES:
        if node.IsA(className):
            return [Finding(ERROR, "nodeType", f"{name} is {text}", advice)]
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        return [Finding(ERROR, "nodeType", f"{name} is not a scalar volume.", "Choose a CT or MR volume.")]
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return [Finding(ERROR, "noVoxels", f"{name} has no voxels.", "Load the image again.")]
    transform = node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        return [
            Finding(
                INFO,
                "warped",
                f"{name} is under a non-linear transform.",
                "It is segmented as it was scanned; the result is warped together with it.",
            )
        ]
    return []


_UNSUITABLE_NODES = (
    (
        "vtkMRMLMultiVolumeNode",
        "a multi-volume (several time points in one node), which cannot be segmented.",
        "Load it as a sequence: Application Settings, DICOM, MultiVolumeImporterPlugin, preferred format 'volume "
        "sequence', then load the series again and choose the sequence's volume.",
    ),
    (
        "vtkMRMLSequenceNode",
        "a sequence.",
        "Show it in the Sequences module and choose its volume; the frame that is shown is segmented.",
    ),
    ("vtkMRMLLabelMapVolumeNode", "a labelmap, not an image.", "Choose the CT or MR volume."),
    (
        "vtkMRMLVectorVolumeNode",
        "a colour or vector image.",
        "Convert it with the module Vector to Scalar Volume, then choose the result.",
    ),
    ("vtkMRMLTensorVolumeNode", "a tensor image.", "Choose a CT or MR volume."),
)
"""Class, what it is, what to do; special cases before what they derive from."""


def checkFrame(frame: Frame | None, wanted: int = 1) -> list[Finding]:
    """Say which frames of a sequence are segmented.

    Args:
        frame: Frame that the volume shows; None outside of sequences.
        wanted: How many frames are segmented: 1 or all.
    """
    if frame is None or frame.count < 2:
        return []
    if wanted > 1:
        advice = "The result plays with the sequence, and is corrected frame by frame."
        return [Finding(INFO, "frame", f"All {wanted} frames of the sequence are segmented.", advice)]
    text = f"The volume shows {frame.title}, of a sequence. Only this frame is segmented."
    return [Finding(INFO, "frame", text, "Move the sequence to segment another one, or tick all frames.")]


def checkInput(volume: Volume, config: ModelConfig, dicom: DicomFacts | None = None) -> list[Finding]:
    """Check a volume against what a checkpoint was made for.

    Args:
        volume: (D, H, W) scalar volume.
        config: The checkpoint's configuration.
        dicom: What DICOM says, None if nothing is known.

    Returns:
        Findings; a single error when the volume cannot be segmented at all.
    """
    try:
        warnings = check_volume(volume, config.preprocessing)
    except InvalidInputError as error:
        return [Finding(ERROR, "unusable", str(error))]
    canonical = reorient(volume, canonical_orientation(volume, config.preprocessing.slice_axis))
    sample = _sample(canonical.array)
    dicom = dicom or DicomFacts()
    found = _modality(config, dicom) or [Finding(WARNING, "modality", text, _shiftAdvice(sample)) for text in warnings]
    if not found:
        found = _intensities(sample, config)
    found += _spacing(canonical, config)
    found += _extent(canonical, config)
    found += _tilt(canonical, config)
    return found + _contrast(config, dicom)


def _sample(array: Any) -> Any:
    step = max(1, round((array.size / SAMPLE_VOXELS) ** (1 / 3)))
    return np.asarray(array[::step, ::step, ::step], dtype=np.float32)


def _modality(config: ModelConfig, dicom: DicomFacts) -> list[Finding]:
    wanted, found = config.preprocessing.modality, dicom.modality.upper().strip()
    if not found or found == wanted:
        return []
    text = f"'{config.task}' works on {wanted}, but DICOM says that this is {found}: the result will be wrong."
    return [Finding(WARNING, "modality", text, f"Choose a {wanted} volume or another task.")]


def _shiftAdvice(sample: Any) -> str:
    """Recognise CT that was stored without its offset: soft tissue near 1050 and nothing below 0."""
    if sample.min() < 0:
        return ""
    tissue = sample[(sample > 500) & (sample < 1500)]
    if len(tissue) < 0.05 * sample.size or not SHIFTED_TISSUE[0] < float(np.median(tissue)) < SHIFTED_TISSUE[1]:
        return ""
    return "The values look 1024 too high: subtract 1024, for example with the module Simple Filters (SubtractImage)."


def _intensities(sample: Any, config: ModelConfig) -> list[Finding]:
    low, high = (float(value) for value in np.percentile(sample, (0.01, 99.99)))
    if config.preprocessing.modality == "MR":
        empty = float(np.mean(sample == sample.min()))
        if empty < 0.95:
            return []
        text = f"{empty:.0%} of the volume have the lowest value ({sample.min():g}): it is almost empty."
        return [Finding(WARNING, "intensity", text, "Check that the right volume is chosen.")]
    window = config.preprocessing.window_hu
    if low > window[0] + 25 or high < window[1] - 25:
        text = (
            f"The values reach from {low:.0f} to {high:.0f} HU, but the model uses {window[0]:g} to {window[1]:g} HU."
        )
        return [Finding(WARNING, "intensity", text, "If the image was windowed before saving, use the original.")]
    if high > 20000 or low < -20000:
        text = f"The values reach from {low:.0f} to {high:.0f} HU, far beyond what CT measures."
        return [Finding(WARNING, "intensity", text, "Check the import (rescale slope and intercept).")]
    return []


def _spacing(canonical: Volume, config: ModelConfig) -> list[Finding]:
    settings, spacing = config.preprocessing, canonical.spacing_mm
    through, pixel = spacing[0], max(spacing[1:])
    found = []
    if all(s == 1.0 for s in spacing):
        text = "All voxel spacings are exactly 1 mm, as in files that lost them."
        found.append(Finding(WARNING, "spacing", text, "If so, sizes and volumes in mL will be wrong."))
    coarsest = 2 * settings.in_plane_spacing_mm if settings.in_plane_spacing_mm else 4.0
    if pixel > coarsest:
        text = f"Pixels of {pixel:.1f} mm are coarse for this model: it was made for up to {coarsest:.1f} mm."
        found.append(Finding(WARNING, "pixels", text, "Small structures will be missed."))
    if settings.slice_axis == "axial" and pixel > 2 * min(spacing[1:]):
        text = f"The slices were taken in another plane: axial pixels are {spacing[1]:.1f} x {spacing[2]:.1f} mm."
        found.append(Finding(WARNING, "plane", text, "The model works on axial slices; use an axial series."))
    if settings.modality == "CT" and through > THICK_CT_SLICE_MM:
        text = f"The slices are {through:.1f} mm apart: contours jump from slice to slice."
        found.append(Finding(WARNING, "thickness", text, "Use a reconstruction with thinner slices if there is one."))
    if settings.slice_axis == "acquisition" and through < THIN_CINE_SLICE_MM and canonical.array.shape[0] > 1:
        text = f"The slices are only {through:.1f} mm apart; short-axis stacks have 5 to 12 mm."
        advice = "If this is a cine series whose time points were stored as slices, load it as a volume sequence."
        found.append(Finding(WARNING, "thickness", text, advice))
    return found


def _extent(canonical: Volume, config: ModelConfig) -> list[Finding]:
    count = canonical.array.shape[0]
    length, height, width = (n * s for n, s in zip(canonical.array.shape, canonical.spacing_mm))
    found = []
    if config.preprocessing.in_slices == 3 and count < 3:
        text = f"The volume has {count} slice(s); the model looks at each slice with its two neighbours."
        found.append(Finding(WARNING, "slices", text, "Use the whole series."))
    isCT = config.preprocessing.modality == "CT"
    narrow = ABDOMEN_WIDTH_MM if isCT else HEART_WIDTH_MM
    if min(height, width) < narrow:
        text = f"The field of view is {width:.0f} x {height:.0f} mm; the model expects at least {narrow:.0f} mm."
        found.append(Finding(WARNING, "view", text, "Organs at its edge are cut off and may be missed."))
    if isCT and count >= 3 and length < ABDOMEN_LENGTH_MM:
        text = f"The volume covers only {length:.0f} mm from top to bottom."
        found.append(Finding(WARNING, "coverage", text, "Organs that reach beyond it are segmented in part."))
    return found


def _tilt(canonical: Volume, config: ModelConfig) -> list[Finding]:
    if config.preprocessing.slice_axis != "axial":
        return []
    cosine = abs(float(np.asarray(canonical.direction)[2, 0]))
    degrees = float(np.degrees(np.arccos(min(1.0, cosine))))
    if degrees <= TILT_DEGREES:
        return []
    text = f"The slices are tilted by {degrees:.0f} degrees against the patient's axis; the model knows upright ones."
    return [Finding(WARNING, "tilt", text, "Check the result with care, or resample to axial slices first.")]


_WITHOUT_CONTRAST = re.compile(
    r"\b(native|nativ|non[- ]?contrast|unenhanced|w/?o|without|ohne)\b|\bNC(CT)?\b|\bsans (inj|pdc)", re.IGNORECASE
)
_ARTERIAL = re.compile(r"\b(art|arterial|arteriell|CTA|angio\w*)\b", re.IGNORECASE)


def _contrast(config: ModelConfig, dicom: DicomFacts) -> list[Finding]:
    """Tell the contrast phase where the series description or the agent tells it; silence otherwise."""
    if config.preprocessing.modality != "CT":
        return []
    if _WITHOUT_CONTRAST.search(dicom.description) and not dicom.contrastAgent.strip():
        text = f"The series description '{dicom.description}' speaks of CT without contrast agent."
        return [Finding(INFO, "contrast", text, "Vessels and pancreas are hard to tell apart in it; check them first.")]
    if _ARTERIAL.search(dicom.description):
        text = f"The series description '{dicom.description}' speaks of the arterial phase."
        return [Finding(INFO, "contrast", text, "Veins and organs look different there; check them first.")]
    return []
