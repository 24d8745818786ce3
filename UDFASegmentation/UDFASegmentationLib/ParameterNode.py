"""What the panel remembers with the scene."""

from __future__ import annotations

from typing import Any

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class UDFASegmentationParameterNode:
    """Parameters of the module; saved and restored with the scene.

    Attributes:
        inputVolume: Volume to segment.
        allFrames: Whether all frames are segmented where the volume shows a sequence.
        modelName: Name of a bundled checkpoint, or path of one that the user added; empty for the default.
        omittedLabels: Names of the labels that are not wanted; empty keeps all, whatever the model.
        outputSegmentation: Segmentation that takes the result; None makes a new one.
        replaceSegments: Whether segments of the same labels are replaced in an existing segmentation.
        device: auto, cpu, cuda, cuda:N or mps; empty for the one in the settings.
        uncertainty: Whether an uncertainty map is computed too.
        removeIslands: Whether small islands are removed where the checkpoint says that it helps.
        resultSegmentation: Segmentation of the last run, which table, 3D view and corrections refer to.
        resultVolume: Volume of the last run.
        uncertaintyVolume: Uncertainty map of the last run.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    allFrames: bool
    modelName: str
    omittedLabels: list[str]
    outputSegmentation: vtkMRMLSegmentationNode
    replaceSegments: bool = True
    device: str
    uncertainty: bool
    removeIslands: bool = True
    resultSegmentation: vtkMRMLSegmentationNode
    resultVolume: vtkMRMLScalarVolumeNode
    uncertaintyVolume: vtkMRMLScalarVolumeNode


_latest: list[UDFASegmentationParameterNode] = []


def typedParameterNode(node: Any) -> UDFASegmentationParameterNode:
    """Return the typed view of a vtkMRMLScriptedModuleNode, the same one as long as the node is the same.

    Slicer's wrapper leaves an observer on the node that refers to the wrapper. The wrapper is kept alive here: were it
    collected while the node lives on in the scene, the next change of the node would call a destroyed function.
    """
    if not _latest or _latest[0].parameterNode is not node:
        _latest[:] = [UDFASegmentationParameterNode(node), *_latest]
    return _latest[0]
