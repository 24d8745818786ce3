"""All or nothing: a change of the scene that is taken back when it fails half-way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Optional

import slicer
import slicer.util


@contextmanager
def sceneChange(scene: Any, segmentationNode: Optional[Any] = None) -> Iterator[list[Any]]:
    """Change the scene in one go, with rendering and scene observers held back until the end.

    Args:
        scene: vtkMRMLScene.
        segmentationNode: An existing segmentation node that will be changed, or None.

    Yields:
        A list; append each node that was added to the scene, so that it is removed if an error follows.

    Raises:
        Exception: Whatever the body raises, after the scene is again as it was.
    """
    before = None if segmentationNode is None else _SegmentationState(segmentationNode)
    added: list[Any] = []
    with _renderingBlocked():
        scene.StartState(scene.BatchProcessState)
        try:
            yield added
        except BaseException:
            for node in reversed(added):
                scene.RemoveNode(node)
            if before is not None:
                before.restore()
            raise
        finally:
            scene.EndState(scene.BatchProcessState)


def _renderingBlocked() -> Any:
    """Slicer's render blocker where there is an application, else nothing."""
    return slicer.util.RenderBlocker() if hasattr(slicer, "app") else nullcontext()


class _SegmentationState:
    """What this module may change of an existing segmentation node, to put it back."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._segmentation = slicer.vtkSegmentation()
        self._segmentation.DeepCopy(node.GetSegmentation())
        self._attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}
        self._transformID = node.GetTransformNodeID()
        self._display = None
        if node.GetDisplayNode() is not None:
            self._display = node.GetDisplayNode().NewInstance()
            self._display.CopyContent(node.GetDisplayNode())
        self._role = node.GetReferenceImageGeometryReferenceRole()
        self._referenceID = node.GetNodeReferenceID(self._role)

    def restore(self) -> None:
        node = self._node
        node.GetSegmentation().DeepCopy(self._segmentation)
        for name in node.GetAttributeNames():
            if name not in self._attributes:
                node.RemoveAttribute(name)
        for name, value in self._attributes.items():
            node.SetAttribute(name, value)
        node.SetAndObserveTransformNodeID(self._transformID)
        node.SetNodeReferenceID(self._role, self._referenceID)
        if self._display is not None:
            # Restored segments start with default display properties.
            node.GetDisplayNode().CopyContent(self._display)
