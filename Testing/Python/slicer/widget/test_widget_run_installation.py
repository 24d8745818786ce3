"""A run that needs an installation first, or waits for one."""

from __future__ import annotations

import pytest


class NothingPending:
    """An installer for which no installation waits."""

    def resumePending(self):
        return None


def test_an_unexpected_error_of_the_installation_leaves_a_panel_that_can_run_again(harness, volume, fake):
    class Broken:
        def resumePending(self):
            return None

        def ensureReady(self):
            raise RuntimeError("pip is broken")

    harness.open(models=fake, installer=Broken(), warmUp=lambda: None, findDevices=fake.findDevices)
    harness.widget.enter()
    harness.settle()
    harness.click("segmentButton")
    harness.settle()
    assert not harness.panel.runs.running
    assert "pip is broken" in harness.ui.statusLabel.text
    assert harness.visible("segmentButton")


@pytest.mark.parametrize(
    ("outcome", "text"), [("ready", "Everything is installed."), ("failed", "No connection. Try again.")]
)
def test_an_installation_that_waited_for_the_restart_goes_on_when_the_module_opens(harness, fake, outcome, text):
    from UDFASegmentationLib.Installation import Result

    class Pending:
        def resumePending(self):
            return Result(outcome, "" if outcome == "ready" else text)

    harness.open(models=fake, installer=Pending(), warmUp=lambda: None)
    assert harness.ui.statusLabel.text == ""
    harness.widget.enter()
    # Not while Slicer is still switching modules.
    assert harness.ui.statusLabel.text == ""
    harness.until(lambda: harness.ui.statusLabel.text == text)


def test_leaving_the_module_at_once_leaves_a_waiting_installation_alone(harness, fake):
    class Pending:
        def resumePending(self):
            raise AssertionError("The installation went on in another module.")

    harness.open(models=fake, installer=Pending(), warmUp=lambda: None)
    harness.widget.enter()
    harness.widget.exit()
    harness.settle()


def test_a_missing_installation_is_asked_for_before_the_run_and_declining_it_runs_nothing(harness, volume, fake):
    from UDFASegmentationLib.Installation import Result

    class Declining(NothingPending):
        asked = 0

        def ensureReady(self):
            self.asked += 1
            return Result("declined", "Nothing was installed.")

    installer = Declining()
    harness.open(models=fake, installer=installer, warmUp=lambda: None)
    harness.widget.enter()
    harness.settle()
    assert installer.asked == 0, "opening the panel asks for nothing"
    harness.click("segmentButton")
    harness.settle()
    assert installer.asked == 1
    assert fake.options == []
    assert harness.ui.statusLabel.text == "Nothing was installed."
    assert harness.ui.segmentButton.enabled


def test_torch_is_imported_on_the_executor_thread_before_the_installation_looks_at_it(harness, volume, fake):
    import threading

    from UDFASegmentationLib.Installation import READY, Result

    order = []

    class Installer(NothingPending):
        def ensureReady(self):
            order.append(("installer", threading.current_thread() is threading.main_thread()))
            return Result(READY)

    harness.open(
        models=fake,
        installer=Installer(),
        warmUp=lambda: order.append(("warmUp", threading.current_thread() is threading.main_thread())),
    )
    harness.widget.enter()
    harness.settle()
    harness.click("segmentButton")
    harness.settle()
    assert order == [("warmUp", False), ("installer", True)]
    assert len(fake.options) == 1


def test_closing_the_scene_while_the_installation_asks_runs_nothing(harness, scene, volume, fake):
    from UDFASegmentationLib.Installation import READY, Result

    class Slow(NothingPending):
        def ensureReady(self):
            scene.Clear(False)
            return Result(READY)

    harness.open(models=fake, installer=Slow(), warmUp=lambda: None)
    harness.widget.enter()
    harness.settle()
    harness.click("segmentButton")
    harness.settle()
    assert fake.options == []
