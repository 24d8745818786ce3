"""Doubles of `slicer.app` and its IO manager: as much as `slicer.util` and our code ask for, on real storage nodes.

What they lack raises AttributeError or NotImplementedError, so that a gap shows instead of passing silently. They
choose the file type by suffix themselves: tests that use them say nothing of how Slicer's readers are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

READ_TYPES = (
    (".seg.nrrd", "SegmentationFile"),
    (".seg.nhdr", "SegmentationFile"),
    (".mrb", "SceneFile"),
    (".h5", "TransformFile"),
    (".tfm", "TransformFile"),
    (".nii.gz", "VolumeFile"),
    (".nii", "VolumeFile"),
    (".nrrd", "VolumeFile"),
    (".mha", "VolumeFile"),
)
WRITE_TYPES = (
    ("vtkMRMLSegmentationNode", "SegmentationFile"),
    ("vtkMRMLVolumeNode", "VolumeFile"),
    ("vtkMRMLTransformNode", "TransformFile"),
)


class IOManagerDouble:
    """Loads and saves as `qSlicerCoreIOManager` does, through the real logics, storage nodes and scene bundles."""

    def fileType(self, path: str) -> str:
        """Return the type of a file by its suffix."""
        for suffix, kind in READ_TYPES:
            if str(path).lower().endswith(suffix):
                return kind
        raise NotImplementedError(f"The headless IO manager does not read {path}.")

    def fileWriterFileType(self, node: Any) -> str:
        """Return the type under which a node is saved."""
        for name, kind in WRITE_TYPES:
            if node.IsA(name):
                return kind
        raise NotImplementedError(f"The headless IO manager does not write {node.GetClassName()}.")

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any = None, messages: Any = None) -> bool:
        """Load a file into the scene; the nodes are added to the collection `loaded`."""
        readers: dict[str, Callable[[str, dict[str, Any]], Any]] = {
            "VolumeFile": _load_volume,
            "SegmentationFile": _load_segmentation,
            "TransformFile": _load_transform,
        }
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return bool(slicer.mrmlScene.ReadFromMRB(path, bool(properties.get("clear", False)), messages))
        if kind not in readers:
            raise NotImplementedError(f"The headless IO manager does not read the type {kind}.")
        node = readers[kind](path, properties)
        if node is not None and loaded is not None:
            loaded.AddItem(node)
        return node is not None

    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        """Save a node through its storage node, or the scene as a bundle."""
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return bool(slicer.mrmlScene.WriteToMRB(path, None, messages))
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        storage.SetUseCompression(int(properties.get("useCompression", True)))
        return bool(storage.WriteData(node))


def _name(path: str, properties: dict[str, Any]) -> str:
    return str(properties.get("name") or Path(path).name.split(".")[0])


def _load_volume(path: str, properties: dict[str, Any]) -> Any:
    options = 1 if properties.get("labelmap") else 0
    return slicer.modules.volumes.logic().AddArchetypeVolume(path, _name(path, properties), options)


def _load_segmentation(path: str, properties: dict[str, Any]) -> Any:
    node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(path)
    if node is not None:
        node.SetName(_name(path, properties))
    return node


def _load_transform(path: str, properties: dict[str, Any]) -> Any:
    return slicer.modules.transforms.logic().AddTransform(path, slicer.mrmlScene)


class AppDouble:
    """What `slicer.util` and our Slicer layer ask of `slicer.app` when there is no main window."""

    def __init__(self, temporary_path: Path) -> None:
        self.temporaryPath = str(temporary_path)
        self.applicationName = "Slicer"
        self.render_blocks = 0
        """How many pauseRender calls have no resumeRender yet."""
        self._io_manager = IOManagerDouble()

    def coreIOManager(self) -> IOManagerDouble:
        """Return the IO manager."""
        return self._io_manager

    def ioManager(self) -> IOManagerDouble:
        """Return the IO manager."""
        return self._io_manager

    def pauseRender(self) -> None:
        """Count a render block."""
        self.render_blocks += 1

    def resumeRender(self) -> None:
        """End a render block."""
        self.render_blocks -= 1

    def processEvents(self) -> None:
        """Do nothing: there is no event loop."""

    def testingEnabled(self) -> bool:
        """Return True, so that nothing waits for a user."""
        return True
