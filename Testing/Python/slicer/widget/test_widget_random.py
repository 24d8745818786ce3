"""100 random sequences of what a user may do, in any order: no exception, no leaked observer, a consistent scene."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
import slicer
import slicer.util
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from doubles.fakes import FakeModels
from doubles.harness import Harness
from doubles.pythonqt import FileDialogs
from udfa.errors import InvalidInputError

NODE_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")


def nodes_of(className: str) -> list[Any]:
    scene = slicer.mrmlScene
    return [scene.GetNthNodeByClass(i, className) for i in range(scene.GetNumberOfNodesByClass(className))]


def pick(items: list[Any], number: int) -> Any:
    """One of the items, or None."""
    return items[number % (len(items) + 1)] if number % (len(items) + 1) < len(items) else None


class User(RuleBasedStateMachine):
    """Somebody in front of the panel who reads no manual."""

    folder: Any = None
    seen: ClassVar[Counter[str]] = Counter()
    """First words of the panel's status line, to know that the sequences reach what they should."""

    def __init__(self) -> None:
        super().__init__()
        slicer.mrmlScene.Clear(False)
        self.fake = FakeModels()
        self.user = Harness()
        self.user.open(models=self.fake, installer=None, warmUp=lambda: None, findDevices=self.fake.findDevices)
        self.user.widget.enter()
        self.entered = True
        self.count = 0
        self.settled = self.observers()

    def observers(self) -> int:
        """Observers on the scene and connections of the buttons: these never depend on what was done."""
        panel, ui = self.user.panel, self.user.ui
        widgets = (ui.segmentButton, ui.cancelButton, ui.inputSelector, ui.modelSelector, ui.labelList, ui.exportButton)
        observations = [*panel.Observations, *panel.parameters.Observations]
        return len(observations) + sum(widget.connectionCount() for widget in widgets)

    @rule()
    def load_a_volume(self):
        self.count += 1
        array = np.full((4, 5, 6), -1000, np.int16)
        array[1:3, 1:4, 1:4] = 60
        node = slicer.util.addVolumeFromArray(array, name=f"CT {self.count}")
        slicer.util.setSliceViewerLayers(background=node)

    @rule(number=st.integers(0, 5))
    def choose_a_volume(self, number):
        if self.user.ui.inputsCollapsibleButton.enabled:
            self.user.ui.inputSelector.setCurrentNode(pick(nodes_of(NODE_CLASSES[0]), number))

    @rule(number=st.integers(0, 3))
    def choose_a_segmentation(self, number):
        if self.user.ui.outputCollapsibleButton.enabled:
            self.user.ui.outputSelector.setCurrentNode(pick(nodes_of(NODE_CLASSES[1]), number))

    @rule(name=st.sampled_from(["replaceCheckBox", "uncertaintyCheckBox", "removeIslandsCheckBox"]))
    def tick_an_option(self, name):
        box = getattr(self.user.ui, name)
        if box.enabled:
            box.checked = not box.checked

    @rule(line=st.integers(0, 1))
    def tick_a_structure(self, line):
        import qt

        item = self.user.ui.labelList.item(line)
        checked = item.checkState() == qt.Qt.Checked
        item.setCheckState(qt.Qt.Unchecked if checked else qt.Qt.Checked)

    @rule(name=st.sampled_from(["allLabelsButton", "noLabelsButton", "dismissCheckButton", "cancelButton"]))
    def press(self, name):
        if getattr(self.user.ui, name).enabled and self.user.visible(name):
            self.user.click(name)

    @initialize(
        start=st.sampled_from(["volume", "result", "doubt", "failure", "run", "empty"]),
        uncertainty=st.sampled_from([True, True, False]),
    )
    def begin(self, start, uncertainty):
        """Most sequences begin where something can be lost."""
        self.user.ui.uncertaintyCheckBox.checked = uncertainty or start == "doubt"
        if start == "empty":
            return
        self.load_a_volume()
        self.user.settle()
        if start == "failure":
            self.fake.error = InvalidInputError("Too thin.")
        if start in ("result", "doubt", "failure"):
            self.press_segment()
            self.user.settle()
        if start == "doubt":
            self.next_doubtful_slice()
        if start == "run":
            self.fake.hold()
            self.press_segment()
            self.user.until(self.fake.reached.is_set)

    @rule()
    def press_segment(self):
        if self.user.ui.segmentButton.enabled and self.user.visible("segmentButton"):
            self.user.click("segmentButton")

    @rule()
    def segment_and_wait(self):
        self.press_segment()
        self.wait_until_all_is_done()

    @rule()
    def cancel_and_wait(self):
        self.press("cancelButton")
        self.wait_until_all_is_done()

    @rule()
    def hold_the_engine(self):
        self.fake.hold()

    @rule()
    def release_the_engine(self):
        self.fake.release()

    @rule(error=st.sampled_from([None, InvalidInputError("Too thin."), ZeroDivisionError("zero")]))
    def let_the_engine_fail(self, error):
        self.fake.error = error
        self.press_segment()

    @rule()
    def wait(self):
        for _ in range(3):
            slicer.app.processEvents()

    @rule()
    def wait_until_all_is_done(self):
        self.fake.release()
        self.user.settle()

    @rule(className=st.sampled_from(NODE_CLASSES), number=st.integers(0, 5))
    def delete_a_node(self, className, number):
        node = pick(nodes_of(className), number)
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)

    @rule()
    def close_the_scene(self):
        slicer.mrmlScene.Clear(False)

    @rule()
    def save_and_load_the_scene(self):
        path = str(self.folder / f"scene{self.count}.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear(False)
        assert slicer.mrmlScene.ReadFromMRB(path)

    @rule()
    def switch_the_module(self):
        (self.user.widget.exit if self.entered else self.user.widget.enter)()
        self.entered = not self.entered

    @rule(name=st.sampled_from(["advanced", "correction", "result", "inputs"]))
    def fold_a_section(self, name):
        section = getattr(self.user.ui, f"{name}CollapsibleButton")
        section.collapsed = not section.collapsed

    @rule()
    def toggle_the_overlay(self):
        if self.user.ui.uncertaintyFrame.enabled:
            self.user.ui.overlayCheckBox.checked = not self.user.ui.overlayCheckBox.checked

    @rule()
    def next_doubtful_slice(self):
        if self.user.ui.uncertaintyFrame.enabled:
            self.user.click("nextDoubtfulButton")

    @rule()
    def show_3d(self):
        if self.user.ui.show3DButton.enabled:
            self.user.click("show3DButton")

    @rule(name=st.sampled_from(["copyTableButton", "saveTableButton"]))
    def take_the_table(self, name):
        if getattr(self.user.ui, name).enabled:
            FileDialogs.answers[:] = [str(self.folder / "table.csv")]
            self.user.click(name)

    @rule(number=st.integers(0, 3))
    def rename_or_remove_a_segment(self, number):
        node = pick(nodes_of(NODE_CLASSES[1]), number)
        if node is not None and node.GetSegmentation().GetNumberOfSegments():
            segmentID = node.GetSegmentation().GetNthSegmentID(0)
            if number % 2:
                node.GetSegmentation().GetSegment(segmentID).SetName("renamed")
            else:
                node.GetSegmentation().RemoveSegment(segmentID)

    @rule(key=st.sampled_from(["Ctrl+Return", "N", "U"]))
    def press_a_key(self, key):
        import qt

        for shortcut in self.user.mainWindow.findChildren(qt.QShortcut):
            if shortcut.key.toString() == key:
                shortcut.activated.emit()

    @invariant()
    def all_is_well(self):
        """Checked after each action, when Qt has handled what the action left to it."""
        slicer.app.processEvents()
        self.seen[(self.user.ui.statusLabel.text.split() or [""])[0].rstrip(";.")] += 1
        for check in (
            self.nothing_went_wrong,
            self.no_observer_leaks,
            self.the_panel_names_only_nodes_of_the_scene,
            self.widgets_show_what_the_parameter_node_says,
            self.exactly_one_of_segment_and_cancel_is_there,
            self.keys_live_only_while_the_module_is_shown,
            self.segmentations_are_whole,
            self.the_segment_button_can_be_pressed_exactly_when_nothing_is_missing,
        ):
            check()

    def nothing_went_wrong(self):
        assert self.user.errors == []

    def no_observer_leaks(self):
        assert self.observers() == self.settled

    def the_panel_names_only_nodes_of_the_scene(self):
        node = self.user.panel.parameterNode
        assert node is not None
        for name in ("inputVolume", "outputSegmentation", "resultSegmentation", "resultVolume", "uncertaintyVolume"):
            chosen = getattr(node, name)
            assert chosen is None or chosen.GetScene() is slicer.mrmlScene, name

    def widgets_show_what_the_parameter_node_says(self):
        node, ui = self.user.panel.parameterNode, self.user.ui
        assert ui.inputSelector.currentNode() is node.inputVolume
        assert ui.outputSelector.currentNode() is node.outputSegmentation
        assert ui.uncertaintyCheckBox.checked == node.uncertainty
        assert self.user.panel.models.omittedLabels() == list(node.omittedLabels)

    def exactly_one_of_segment_and_cancel_is_there(self):
        running = self.user.panel.runs.running
        assert self.user.visible("cancelButton") == running
        assert self.user.visible("segmentButton") != running
        if running:
            assert not self.user.ui.inputsCollapsibleButton.enabled

    def keys_live_only_while_the_module_is_shown(self):
        import qt

        assert bool(self.user.mainWindow.findChildren(qt.QShortcut)) == self.entered
        assert self.user.panel.shortcuts.installed == self.entered
        if not self.entered:
            assert not self.user.ui.segmentEditorWidget._shortcuts

    def segmentations_are_whole(self):
        for node in nodes_of(NODE_CLASSES[1]):
            assert node.GetSegmentation() is not None
        assert not slicer.mrmlScene.IsBatchProcessing()
        assert slicer.app.render_blocks == 0

    def the_segment_button_can_be_pressed_exactly_when_nothing_is_missing(self):
        panel = self.user.panel
        if not panel.runs.running:
            assert self.user.ui.segmentButton.enabled == (not panel.notReadyReason())

    def teardown(self) -> None:
        self.fake.release()
        self.user.settle()
        panel = self.user.panel
        self.user.close()
        watchers = (panel, panel.parameters, panel.result, panel.inspection)
        assert [watcher.Observations for watcher in watchers] == [[], [], [], []]


@pytest.mark.usefixtures("_doubles", "models")
def test_100_random_sequences_of_actions_leave_panel_and_scene_consistent(tmp_path):
    User.folder = tmp_path
    User.seen.clear()
    run_state_machine_as_test(
        User,
        settings=settings(
            max_examples=100,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        ),
    )
    # Which ends a walk reaches depends on the speed of the machine, too; most of them it always does.
    reached = {
        word for word in ("Done", "Cancelled", "Preparing", "Slice", "Doubtful", "Too", "zero") if User.seen[word]
    }
    assert "Done" in reached
    assert len(reached) >= 5, User.seen
