"""The qMRML widgets that the panel uses, on the real MRML scene. Behaviour as read in Slicer's source."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from doubles.qt_classes import PythonQtManners
from doubles.scene_events import beforeRemoval, neighbour, stopObserving


def stored(name: str, kind: Any) -> QtCore.Property:
    """Return a Qt property that lives in the object's `_values`, so that .ui files and code can set it."""
    return QtCore.Property(kind, lambda self: self._values[name], lambda self, value: self._store(name, value))


class qMRMLWidget(PythonQtManners, QtWidgets.QWidget):
    """Base of widgets with a scene (Libs/MRML/Widgets/qMRMLWidget.h)."""

    sceneChanged = QtCore.Signal(object)
    signatures: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "sceneChanged"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene and tell connected widgets."""
        self._scene = scene
        self.sceneChanged.emit(scene)


class qMRMLNodeComboBox(PythonQtManners, QtWidgets.QWidget):
    """Chooses a node of given classes; follows the scene (Libs/MRML/Widgets/qMRMLNodeComboBox.h)."""

    nodeChanged = QtCore.Signal(object)
    nodeAddedByAction = QtCore.Signal(object)
    signatures: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "nodeChanged",
        "nodeAddedByUserAction(vtkMRMLNode*)": "nodeAddedByAction",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._values: dict[str, Any] = {
            "nodeTypes": [],
            "showChildNodeTypes": True,
            "showHidden": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "noneEnabled": False,
            "noneDisplay": "None",
            "selectNodeUponCreation": True,
            "baseName": "",
        }
        self._scene: Any = None
        self._observed: list[tuple[Any, int]] = []
        # The C++ destructor lets go of the scene.
        self.destroyed.connect(functools.partial(stopObserving, self._observed))
        self._node: Any = None
        self._box = QtWidgets.QComboBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.setMinimumContentsLength(8)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.activated.connect(self._onActivated)

    def _store(self, name: str, value: Any) -> None:
        self._values[name] = list(value) if name == "nodeTypes" else value
        self._refresh()

    nodeTypes = stored("nodeTypes", "QStringList")
    showChildNodeTypes = stored("showChildNodeTypes", bool)
    showHidden = stored("showHidden", bool)
    addEnabled = stored("addEnabled", bool)
    removeEnabled = stored("removeEnabled", bool)
    editEnabled = stored("editEnabled", bool)
    renameEnabled = stored("renameEnabled", bool)
    noneEnabled = stored("noneEnabled", bool)
    noneDisplay = stored("noneDisplay", str)
    selectNodeUponCreation = stored("selectNodeUponCreation", bool)
    baseName = stored("baseName", str)

    def currentNode(self) -> Any:
        """The chosen node, or None."""
        return self._node

    def getCurrentNodeID(self) -> str:
        """ID of the chosen node, or ''."""
        return self._node.GetID() if self._node is not None else ""

    def setCurrentNodeID(self, identifier: str | None) -> None:
        """Choose a node by its ID; an unknown one chooses None."""
        self.setCurrentNode(self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None)

    currentNodeID = QtCore.Property(str, getCurrentNodeID, setCurrentNodeID)

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node; one that the box does not list chooses None (or stays, where None is not offered)."""
        listed = self.nodes()
        wanted = node if node is not None and any(node is n for n in listed) else None
        if wanted is None and not self._values["noneEnabled"] and listed and node is not None:
            return
        self._choose(wanted)

    def nodes(self) -> list[Any]:
        """The nodes that are offered."""
        if self._scene is None:
            return []
        found = []
        for name in self._values["nodeTypes"]:
            for i in range(self._scene.GetNumberOfNodesByClass(name)):
                node = self._scene.GetNthNodeByClass(i, name)
                exact = self._values["showChildNodeTypes"] or node.GetClassName() == name
                if exact and (self._values["showHidden"] or not node.GetHideFromEditors()):
                    found.append(node)
        return found

    def nodeCount(self) -> int:
        """Number of nodes offered."""
        return len(self.nodes())

    def addNode(self, nodeType: str = "") -> Any:
        """Create a node, as the user does with 'Create new ...', and choose it."""
        if not self._values["addEnabled"]:
            raise RuntimeError("The box offers no 'Create new ...'.")
        node = self._scene.AddNewNodeByClass(nodeType or self._values["nodeTypes"][0], self._values["baseName"])
        if self._values["selectNodeUponCreation"]:
            self._choose(node)
        self.nodeAddedByAction.emit(node)
        return node

    def setMRMLScene(self, scene: Any) -> None:
        """Follow a scene; None lets go of it."""
        stopObserving(self._observed)
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
                self._observed.append((scene, scene.AddObserver(event, lambda caller, event: self._onScene())))
            self._observed.append((scene, beforeRemoval(scene, self._lineVanishes)))
        self._onScene()

    def _lineVanishes(self, node: Any) -> None:
        """Choose what Qt chooses when the chosen line vanishes, with or without a 'None': a neighbour, if there is one.

        The line vanishes while the node is still in the scene (qMRMLSceneModel::onMRMLSceneNodeAboutToBeRemoved,
        QComboBoxPrivate::_q_rowsRemoved, qMRMLNodeComboBox::emitCurrentNodeChanged).
        """
        if node is self._node:
            self._choose(neighbour(self.nodes(), node))

    def _onScene(self) -> None:
        nodes = self.nodes()
        if self._node is not None and not any(self._node is n for n in nodes):
            self._node = None
            self._refresh()
            if not nodes or self._values["noneEnabled"]:
                self.nodeChanged.emit(None)
        if self._node is None and nodes and not self._values["noneEnabled"]:
            self._choose(nodes[0])
        self._refresh()

    def _choose(self, node: Any) -> None:
        changed = node is not self._node
        self._node = node
        self._refresh()
        if changed:
            self.nodeChanged.emit(node)

    def _onActivated(self, index: int) -> None:
        nodes = ([None] if self._values["noneEnabled"] else []) + self.nodes()
        self._choose(nodes[index])

    def _refresh(self) -> None:
        nodes = self.nodes()
        none = [self._values["noneDisplay"]] if self._values["noneEnabled"] else []
        self._box.clear()
        self._box.addItems(none + [n.GetName() for n in nodes])
        self._box.setEnabled(self._scene is not None)
        position = next((i for i, n in enumerate(nodes) if n is self._node), None)
        self._box.setCurrentIndex(len(none) + position if position is not None else len(none) - 1)


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """The Segment Editor as a widget (Modules/Loadable/Segmentations/Widgets/qMRMLSegmentEditorWidget.cxx).

    As there, the widget follows its parameter node: whoever changes the node's tool starts or ends the listening to the
    views in all widgets of that node. Its selector has no 'None' and takes the first segmentation that comes.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._editorNode: Any = None
        self._shown: Any = None
        self._shortcuts = False
        self._observing = False
        self._effectName = ""
        self._undoStates = 5
        self._lightBoxes = False
        self._values = {
            "segmentationNodeSelectorVisible": True,
            "sourceVolumeNodeSelectorVisible": True,
            "autoShowSourceVolumeNode": True,
        }
        self._observed: list[tuple[Any, int]] = []
        self._nodeObserved: list[tuple[Any, int]] = []
        self.destroyed.connect(functools.partial(stopObserving, self._observed))
        self.destroyed.connect(functools.partial(stopObserving, self._nodeObserved))
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(QtWidgets.QLabel("Segment Editor", self))

    def _store(self, name: str, value: Any) -> None:
        self._values[name] = value

    segmentationNodeSelectorVisible = stored("segmentationNodeSelectorVisible", bool)
    sourceVolumeNodeSelectorVisible = stored("sourceVolumeNodeSelectorVisible", bool)
    autoShowSourceVolumeNode = stored("autoShowSourceVolumeNode", bool)

    def setMRMLScene(self, scene: Any) -> None:
        """Follow a scene; None lets go of it."""
        super().setMRMLScene(scene)
        stopObserving(self._observed)
        if scene is not None:
            for event, react in (
                (scene.NodeAddedEvent, self._onNodes),
                (scene.NodeRemovedEvent, self._onNodes),
                (scene.EndBatchProcessEvent, self._onBatchEnd),
            ):
                self._observed.append((scene, scene.AddObserver(event, lambda caller, event, react=react: react())))
            self._observed.append((scene, beforeRemoval(scene, self._onLeaving)))
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        """The parameter node of the editor."""
        return self._editorNode

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        """Set the parameter node."""
        stopObserving(self._nodeObserved)
        self._editorNode = node
        if node is not None:
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self.updateWidgetFromMRML())
            self._nodeObserved.append((node, tag))
            self.updateWidgetFromMRML()

    def segmentationNode(self) -> Any:
        """What the selector shows, which is not always what is edited."""
        return self._shown

    def setSegmentationNode(self, node: Any) -> None:
        """Edit a segmentation; without a parameter node this only logs an error in Slicer, so it raises here."""
        if self._editorNode is None and node is None:
            return
        self._needNode()
        if self._editorNode.GetSegmentationNode() is not node:
            self.setActiveEffect(None)
            self._editorNode.SetAndObserveSegmentationNode(node)

    def sourceVolumeNode(self) -> Any:
        """The source volume, or None."""
        return self._editorNode.GetSourceVolumeNode() if self._editorNode is not None else None

    def setSourceVolumeNode(self, node: Any) -> None:
        """Set the source volume; without a segmentation this only logs an error in Slicer, so it raises here."""
        self._needNode()
        if node is not None and self._shown is None:
            raise RuntimeError("qMRMLSegmentEditorWidget: set the segmentation before its source volume.")
        self._editorNode.SetAndObserveSourceVolumeNode(node)

    def _needNode(self) -> None:
        if self._editorNode is None:
            raise RuntimeError("qMRMLSegmentEditorWidget: set the segment editor node first.")

    def setActiveEffect(self, effect: Any) -> None:
        """Activate an effect; only None is known to the double."""
        if effect is not None:
            raise NotImplementedError("The double has no effects.")
        if self._editorNode is not None:
            self._editorNode.SetActiveEffectName("")

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        """Set the depth of undo."""
        self._undoStates = count

    def updateWidgetFromMRML(self) -> None:
        """Take up what the parameter node says: segmentation, and the tool with its listening to the views."""
        if self._scene is None or self._scene.IsClosing() or self._scene.IsBatchProcessing() or not self._editorNode:
            return
        self._shown = self._editorNode.GetSegmentationNode()
        name = self._editorNode.GetActiveEffectName() or ""
        if name != self._effectName:
            self._effectName, self._observing = name, bool(name)

    def _onNodes(self) -> None:
        """The selector loses a node, or takes the first one that comes."""
        className = "vtkMRMLSegmentationNode"
        nodes = [
            self._scene.GetNthNodeByClass(i, className) for i in range(self._scene.GetNumberOfNodesByClass(className))
        ]
        if self._shown not in nodes and (self._shown is not None or len(nodes) == 1):
            self._shown = nodes[0] if nodes else None
            if not self._scene.IsBatchProcessing():
                self.setSegmentationNode(self._shown)

    def _onLeaving(self, node: Any) -> None:
        """The selector of the source volume goes on to a neighbour of a volume that leaves, also when it is hidden."""
        if node is not None and node is self.sourceVolumeNode() and not self._scene.IsBatchProcessing():
            className = "vtkMRMLScalarVolumeNode"
            count = self._scene.GetNumberOfNodesByClass(className)
            volumes = [self._scene.GetNthNodeByClass(i, className) for i in range(count)]
            self._editorNode.SetAndObserveSourceVolumeNode(neighbour(volumes, node))

    def _onBatchEnd(self) -> None:
        if self._editorNode is not None and not self._scene.IsClosing():
            self.setSegmentationNode(self._shown)
        self.updateWidgetFromMRML()

    def turnOffLightboxes(self) -> bool:
        """Let every slice view show one slice; returns whether one showed more."""
        found, self._lightBoxes = self._lightBoxes, False
        return found

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        """Install the editor's keys; twice would make every key ambiguous, so it raises."""
        if self._shortcuts:
            raise RuntimeError("The Segment Editor's shortcuts are installed already.")
        self._shortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:
        """Remove the editor's keys."""
        self._shortcuts = False

    def setupViewObservations(self) -> None:
        """Listen to the views."""
        self._observing = True

    def removeViewObservations(self) -> None:
        """Stop listening to the views."""
        self._observing = False


class qMRMLSegmentationShow3DButton(PythonQtManners, QtWidgets.QPushButton):
    """Shows and hides the closed surfaces (Segmentations/Widgets/qMRMLSegmentationShow3DButton.h)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._segmentation: Any = None
        self.setCheckable(True)
        self.setText("Show 3D")
        self.setEnabled(False)
        self.toggled.connect(self._onToggled)

    def segmentationNode(self) -> Any:
        """The segmentation, or None."""
        return self._segmentation

    def setSegmentationNode(self, node: Any) -> None:
        """Follow a segmentation; the button is checked when it has closed surfaces."""
        self._segmentation = None
        shown = node is not None and node.GetSegmentation().ContainsRepresentation("Closed surface")
        self.setChecked(bool(shown))
        self.setEnabled(node is not None)
        self._segmentation = node

    def _onToggled(self, on: bool) -> None:
        if self._segmentation is None:
            return
        if on:
            self._segmentation.CreateClosedSurfaceRepresentation()
        else:
            self._segmentation.RemoveClosedSurfaceRepresentation()


WIDGETS = {
    "qMRMLWidget": qMRMLWidget,
    "qMRMLNodeComboBox": qMRMLNodeComboBox,
    "qMRMLSegmentEditorWidget": qMRMLSegmentEditorWidget,
    "qMRMLSegmentationShow3DButton": qMRMLSegmentationShow3DButton,
}


def install() -> None:
    """Offer the widgets where Slicer offers them, as attributes of `slicer`."""
    for name, cls in WIDGETS.items():
        setattr(slicer, name, cls)
