"""The model drop-down, added checkpoint files, structures and devices."""

from __future__ import annotations

import shutil

import pytest
import slicer

from doubles.fakes import writeCheckpoint
from doubles.pythonqt import FileDialogs


def titles(opened):
    selector = opened.ui.modelSelector
    return [selector.itemText(i) for i in range(selector.count)]


def ticks(opened):
    import qt

    items = [opened.ui.labelList.item(i) for i in range(opened.ui.labelList.count)]
    return {item.text(): item.checkState() == qt.Qt.Checked for item in items}


@pytest.fixture
def own(checkpoint, tmp_path):
    """A checkpoint file of the user."""
    return shutil.copy(checkpoint, tmp_path / "own.safetensors")


def test_the_bundled_model_is_offered_with_size_and_licence(opened, models):
    assert titles(opened) == ["Test organs (CT) - tiny"]
    size = (models / "tiny.safetensors").stat().st_size / 1e6
    assert opened.ui.modelInfoLabel.text == f"2 structures, {size:.0f} MB, CC-BY-4.0\nTests only"
    assert "SHA-256" in opened.ui.modelInfoLabel.toolTip
    assert ticks(opened) == {"Liver": True, "Spleen": True}
    assert not opened.ui.removeModelButton.enabled


def test_an_added_file_is_described_first_and_chosen_after_a_yes(opened, own):
    from udfa.checkpoint import read_info

    FileDialogs.answers.append(str(own))
    opened.messages.answers.append(True)
    opened.click("addModelButton")
    ((kind, text),) = opened.messages.shown
    assert kind == "confirmOkCancelDisplay"
    for part in ("Test organs (CT)", "Liver, Spleen", read_info(own).content_sha256, "CC-BY-4.0", "Tests only"):
        assert part in text
    assert titles(opened) == ["Test organs (CT) - tiny", "Test organs (CT) - own"]
    assert opened.panel.parameterNode.modelName == str(own)
    assert opened.ui.removeModelButton.enabled


@pytest.mark.parametrize("answer", ["", "no"])
def test_changing_ones_mind_adds_nothing(opened, own, answer):
    FileDialogs.answers.append(str(own) if answer else "")
    opened.messages.answers.append(False)
    opened.click("addModelButton")
    assert titles(opened) == ["Test organs (CT) - tiny"]


def test_a_file_that_is_no_checkpoint_is_refused_with_the_reason(opened, tmp_path):
    pickle = tmp_path / "model.safetensors"
    pickle.write_bytes(b"PK\x03\x04rest")
    FileDialogs.answers.append(str(pickle))
    opened.click("addModelButton")
    ((kind, text),) = opened.messages.shown
    assert kind == "errorDisplay"
    assert "pickle" in text
    assert titles(opened) == ["Test organs (CT) - tiny"]


def test_adding_a_file_twice_lists_it_once(opened, own):
    for _ in range(2):
        FileDialogs.answers.append(str(own))
        opened.messages.answers.append(True)
        opened.click("addModelButton")
    assert len(titles(opened)) == 2


def test_a_removed_file_leaves_the_list_but_not_the_disk(opened, own):
    FileDialogs.answers.append(str(own))
    opened.messages.answers.append(True)
    opened.click("addModelButton")
    opened.click("removeModelButton")
    assert titles(opened) == ["Test organs (CT) - tiny"]
    assert opened.panel.parameterNode.modelName == "tiny"
    assert own.is_file()


def test_an_added_file_that_vanished_is_listed_with_the_reason_and_cannot_be_used(volume, opened, own):
    FileDialogs.answers.append(str(own))
    opened.messages.answers.append(True)
    opened.click("addModelButton")
    own.unlink()
    opened.panel.models.refresh(str(own))
    opened.panel._updateButtons()
    assert titles(opened)[1] == "own (cannot be used)"
    assert "is no file" in opened.ui.modelInfoLabel.text
    assert not opened.ui.segmentButton.enabled
    assert opened.ui.segmentButton.toolTip == "The chosen model cannot be used."
    assert not opened.ui.allLabelsButton.enabled


def test_without_any_model_the_panel_says_what_to_do(harness, fake, models, volume):
    (models / "tiny.safetensors").unlink()
    harness.open(models=fake, installer=None, warmUp=lambda: None)
    harness.widget.enter()
    assert harness.ui.modelInfoLabel.text == "There is no model. Add a checkpoint file (.safetensors)."
    assert not harness.ui.segmentButton.enabled
    assert harness.ui.addModelButton.enabled


def test_a_bad_file_beside_the_bundled_models_does_not_hide_them(harness, fake, models):
    (models / "broken.safetensors").write_bytes(b"nonsense")
    harness.open(models=fake, installer=None, warmUp=lambda: None)
    assert titles(harness) == ["broken (cannot be used)", "Test organs (CT) - tiny"]
    assert harness.panel.models.current.name == "tiny"


def test_choosing_another_model_shows_its_structures_and_is_remembered(opened, models):
    writeCheckpoint(models / "zweite.safetensors", task="Second task (CT)")
    opened.panel.models.refresh()
    opened.ui.labelList.item(0).setCheckState(_unchecked())
    assert opened.panel.parameterNode.omittedLabels == ["liver"]
    opened.ui.modelSelector.setCurrentIndex(1)
    assert opened.panel.parameterNode.modelName == "zweite"
    assert opened.panel.parameterNode.omittedLabels == []
    assert ticks(opened) == {"Liver": True, "Spleen": True}


def _unchecked():
    import qt

    return qt.Qt.Unchecked


def test_ticks_are_kept_in_the_parameter_node_and_shown_from_it(opened):
    opened.ui.labelList.item(1).setCheckState(_unchecked())
    assert opened.panel.parameterNode.omittedLabels == ["spleen"]
    opened.panel.parameterNode.omittedLabels = ["liver"]
    assert ticks(opened) == {"Liver": False, "Spleen": True}
    opened.click("allLabelsButton")
    assert opened.panel.parameterNode.omittedLabels == []
    opened.click("noLabelsButton")
    assert opened.panel.parameterNode.omittedLabels == ["liver", "spleen"]


def test_a_model_that_a_scene_names_but_this_computer_lacks_falls_back_to_the_default(opened):
    opened.panel.parameterNode.modelName = "/nowhere/other.safetensors"
    assert opened.panel.models.current.name == "tiny"


def devices(opened):
    selector = opened.ui.deviceSelector
    return [selector.itemText(i) for i in range(selector.count)]


def test_devices_are_listed_only_when_someone_looks(opened):
    opened.settle()
    assert devices(opened) == ["Automatic", "Processor (CPU)"]
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    assert devices(opened) == ["Automatic", "Test GPU (7.5 of 8 GB free)", "Processor (CPU)"]


def test_devices_are_not_looked_for_while_torch_is_missing(harness, fake):
    harness.open(models=fake, installer=None, warmUp=lambda: None, torchIsThere=lambda: False, findDevices=fail)
    harness.widget.enter()
    harness.ui.advancedCollapsibleButton.collapsed = False
    harness.settle()
    assert devices(harness) == ["Automatic", "Processor (CPU)"]


def fail():
    raise AssertionError("torch would be imported")


def test_a_chosen_device_is_kept_through_the_detection_and_given_to_the_engine(volume, opened, fake):
    opened.panel.parameterNode.device = "cuda:0"
    assert devices(opened)[opened.ui.deviceSelector.currentIndex] == "cuda:0"
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    assert opened.ui.deviceSelector.currentText == "Test GPU (7.5 of 8 GB free)"
    opened.click("segmentButton")
    opened.settle()
    assert fake.loaded[0][1] == "cuda:0"


def test_a_device_that_this_computer_lacks_falls_back_to_automatic_without_changing_the_scene(opened):
    opened.panel.parameterNode.device = "mps"
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    assert opened.ui.deviceSelector.currentText == "Automatic"
    assert opened.panel.parameterNode.device == "mps"


def test_choosing_a_device_is_remembered_in_the_scene(opened):
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    opened.ui.deviceSelector.setCurrentIndex(2)
    assert opened.panel.parameterNode.device == "cpu"


def test_the_device_of_the_settings_counts_until_one_is_chosen(harness, fake):
    from UDFASegmentationLib.Settings import applicationSettings

    applicationSettings().write(device="cpu")
    harness.open(models=fake, installer=None, warmUp=lambda: None)
    assert harness.panel.devices.current == "cpu"
    assert harness.panel.parameterNode.device == ""


def test_real_devices_are_found_through_torch():
    from UDFASegmentationLib.DeviceSelector import findDevices, torchIsThere

    assert torchIsThere()
    found = findDevices()
    assert found[-1].name == "cpu"
    assert all(choice.title for choice in found)


def test_check_environment_shows_a_report_that_can_be_copied(opened, monkeypatch):
    from UDFASegmentationLib import EnvironmentSection

    monkeypatch.setattr(EnvironmentSection, "environmentReport", lambda facts: "\n".join([*facts, "torch: fine"]))
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    opened.click("environmentButton")
    assert not opened.ui.environmentButton.enabled
    opened.settle()
    assert opened.ui.environmentButton.enabled
    report = opened.panel.environment.text.plainText
    assert report.startswith("3D Slicer 5.12.3")
    assert report.endswith("torch: fine")
    opened.panel.environment.copy()
    assert slicer.app.clipboard().text() == report


def test_a_report_that_fails_leaves_the_button_usable(opened, monkeypatch, caplog):
    from UDFASegmentationLib import EnvironmentSection

    monkeypatch.setattr(EnvironmentSection, "environmentReport", lambda facts: 1 / 0)
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.click("environmentButton")
    opened.settle()
    assert opened.ui.environmentButton.enabled
    assert opened.panel.environment.dialog is None
    assert "division by zero" in caplog.text
