"""Small volumes, labelmaps and engines for tests of the Slicer layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray

from udfa.errors import CancelledError
from udfa.geometry import Volume
from udfa.labels import describe
from UDFASegmentationLib.Contracts import LoadedModel

if TYPE_CHECKING:
    from udfa.inference import CancelCheck, ProgressCallback, SegmentationResult, SegmentOptions

Matrix = NDArray[np.float64]


def ijk_to_ras(
    spacing_ijk: tuple[float, float, float] = (1.0, 1.0, 1.0),
    rotation: Matrix | None = None,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Matrix:
    """Return a (4, 4) IJK to RAS matrix from spacing (I, J, K) in mm, directions (columns) and RAS origin in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if rotation is None else rotation) @ np.diag(spacing_ijk)
    matrix[:3, 3] = origin
    return matrix


def random_directions(random: np.random.Generator) -> Matrix:
    """Return a random orthonormal (3, 3) matrix: oblique, with axes in any order, in half of the cases mirrored."""
    directions, _ = np.linalg.qr(random.normal(size=(3, 3)))
    directions = directions[:, random.permutation(3)]
    return directions * random.choice([-1.0, 1.0], size=3)


def random_matrix(random: np.random.Generator) -> Matrix:
    """Return a random IJK to RAS matrix, oblique and anisotropic, with an origin some 10 cm away."""
    spacing = tuple(float(s) for s in random.uniform(0.5, 4.0, size=3))
    return ijk_to_ras(spacing, random_directions(random), tuple(float(x) for x in random.uniform(-100, 100, size=3)))


def add_volume(array: NDArray[Any] | None = None, matrix: Matrix | None = None, name: str = "CT") -> Any:
    """Add a scalar volume node. (D, H, W) voxels; by default 6 x 7 x 8 different ones."""
    voxels = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8) if array is None else array
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.eye(4) if matrix is None else matrix))
    return node


def add_transform(matrix: Matrix, parent: Any = None) -> Any:
    """Add a linear transform node with a (4, 4) matrix to parent, under another transform if given."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "transform")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_shift_field(shift_mm: tuple[float, float, float]) -> Any:
    """Add a non-linear transform: a displacement field that happens to shift all within 200 mm by the same vector."""
    grid = vtk.vtkImageData()
    grid.SetDimensions(3, 3, 3)
    grid.SetSpacing(200, 200, 200)
    grid.SetOrigin(-200, -200, -200)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    for component, value in enumerate(shift_mm):
        grid.GetPointData().GetScalars().FillComponent(component, value)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(grid)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "field")
    node.SetAndObserveTransformToParent(transform)
    return node


def random_labelmap(random: np.random.Generator, shape: tuple[int, int, int], labels: int) -> NDArray[np.uint8]:
    """Return a labelmap without any symmetry, in which every label occurs and the outermost voxels are background."""
    labelmap = np.zeros(shape, dtype=np.uint8)
    inside = labelmap[1:-1, 1:-1, 1:-1]
    inside[...] = random.integers(0, labels + 1, size=inside.shape)
    inside.flat[:labels] = np.arange(1, labels + 1)
    return labelmap


class FakeEngine:
    """Returns a given labelmap, in as many steps as it has slices; keeps what it was asked."""

    def __init__(self, labelmap: NDArray[np.uint8], error: Exception | None = None) -> None:
        self.labelmap = labelmap
        self.error = error
        self.volume: Volume | None = None
        self.options: SegmentOptions | None = None

    def segment(
        self,
        volume: Volume,
        options: SegmentOptions | None = None,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> SegmentationResult:
        """Pretend to segment; raises the given error after half of the slices."""
        from udfa.inference import Progress

        self.volume, self.options = volume, options
        depth = len(self.labelmap)
        for done in range(1, depth + 1):
            if cancelled is not None and cancelled():
                raise CancelledError("Segmentation was cancelled; nothing was changed.")
            if self.error is not None and 2 * done >= depth:
                raise self.error
            if progress is not None:
                progress(Progress(done, depth, 0.0))
        return fake_result(self.labelmap)


def fake_result(labelmap: NDArray[np.uint8], warnings: tuple[str, ...] = ()) -> SegmentationResult:
    """Return a result with a given labelmap."""
    import torch

    from udfa.devices import ExecutionPlan
    from udfa.inference import SegmentationResult

    return SegmentationResult(labelmap, None, ExecutionPlan("cpu", torch.float32, 4), 1.25, list(warnings))


def fake_model(labelmap: NDArray[np.uint8], *names: str, error: Exception | None = None) -> LoadedModel:
    """Return a model that always gives the same labelmap, with labels of the given names."""
    labels = tuple(describe(name) for name in (names or ("spleen", "right_kidney", "liver")))
    return LoadedModel(FakeEngine(labelmap, error), labels, "fake", "0123abcd")


def cancel_after(calls: int) -> Callable[[], bool]:
    """Return a cancel check that is True from the given call on (counted from 1)."""
    count = 0

    def cancelled() -> bool:
        nonlocal count
        count += 1
        return count >= calls

    return cancelled


def add_cine(frames: dict[str, NDArray[Any]], matrices: dict[str, Matrix] | None = None) -> Any:
    """Add a sequence with a browser that shows its first frame; returns the browser.

    Args:
        frames: Index value to (D, H, W) voxels.
        matrices: Index value to IJK to RAS matrix, where it is not the identity.
    """
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    sequence.SetIndexName("phase")
    sequence.SetIndexType(sequence.TextIndex)
    for value, voxels in frames.items():
        frame = add_volume(voxels, (matrices or {}).get(value), name="Cine")
        sequence.SetDataNodeAtValue(frame, value)
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Cine browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    show_frame(browser, 0)
    return browser


def show_frame(browser: Any, index: int) -> Any:
    """Let a browser show a frame, as its slider does; returns the volume that shows it."""
    browser.SetSelectedItemNumber(index)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(browser.GetMasterSequenceNode())
