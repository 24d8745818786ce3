"""Pictures for the README: the module's real panel beside real MRML views, step by step on the sample data.

    python Testing/screenshots.py [FOLDER]        (default: Resources/Screenshots)

The panel is the module's own code and .ui file; Qt is PySide6 instead of PythonQt, and the CTK and qMRML widgets are
the stand-ins of the tests: it looks as in Slicer, not pixel for pixel. Views, segmentation and numbers are Slicer's.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "UDFASegmentation"), str(ROOT / "Testing")]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

PANEL_WIDTH = 400
VIEW_WIDTH = 470
HEIGHT = 1060
GAP = 4
LAYOUT_PASSES = 5
"""Wrapped labels settle their heights in several rounds."""

WINDOW_HU = (-160.0, 240.0)
CINE_SLICE_MM = 8.0

SEEN_FROM = (-0.3, 1.0, 0.15)
"""From where the 3D view looks: from the front, a little from the patient's left (RAS)."""

VIEWS = (("Axial", "Red"), ("Coronal", "Green"), ("Sagittal", "Yellow"))


def loadDoubles() -> Any:
    """Import the package of doubles; its folder cannot be on the path (see Testing/Python/conftest.py)."""
    folder = ROOT / "Testing" / "Python" / "doubles"
    spec = importlib.util.spec_from_file_location("doubles", folder / "__init__.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{folder} is missing.")
    package = importlib.util.module_from_spec(spec)
    sys.modules["doubles"] = package
    spec.loader.exec_module(package)
    from doubles import harness

    return harness


class Camera:
    """Takes the pictures: the panel on the left, three slice views and the 3D view on the right.

    Args:
        folder: Where the pictures go.
        height: Height of the pictures in pixels.
    """

    def __init__(self, folder: Path, height: int) -> None:
        from headless.views import SliceView, ThreeDView

        self._folder, self.height = folder, height
        size = (VIEW_WIDTH, (height - GAP) // 2)
        self._slices = [SliceView(orientation, size, name) for orientation, name in VIEWS]
        self._space = ThreeDView(size, (0.75, 0.77, 0.91))

    def show(self, volume: Any) -> None:
        """Show a volume in the slice views."""
        for view in self._slices:
            view.show(volume)

    def lookAtSurfaces(self) -> None:
        """Turn the 3D view so that what it shows fills it."""
        self._space.look_from(SEEN_FROM)

    def take(self, panel: Any, name: str) -> Path:
        """Draw the panel and the views as they are now and write <name>.png."""
        from PySide6 import QtGui, QtWidgets

        from udfa.volume_io import written_aside

        panel.resize(PANEL_WIDTH, self.height)
        panel.show()
        for _ in range(LAYOUT_PASSES):
            QtWidgets.QApplication.processEvents()
        width = PANEL_WIDTH + 2 * (VIEW_WIDTH + GAP)
        picture = QtGui.QImage(width, self.height, QtGui.QImage.Format.Format_RGB888)
        picture.fill(QtGui.QColor("black"))
        painter = QtGui.QPainter(picture)
        painter.drawPixmap(0, 0, panel.grab())
        for index, view in enumerate((self._slices[0], self._space, self._slices[1], self._slices[2])):
            pixels = view.render().copy()
            rows, columns, _ = pixels.shape
            image = QtGui.QImage(pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888)
            left = PANEL_WIDTH + GAP + (index % 2) * (VIEW_WIDTH + GAP)
            painter.drawImage(left, (index // 2) * ((self.height + GAP) // 2), image)
        painter.end()
        path = self._folder / f"{name}.png"
        with written_aside(path) as aside:
            picture.save(str(aside), "PNG")
        return path

    def close(self) -> None:
        """Take the views out of the scene."""
        for view in (*self._slices, self._space):
            view.close()


def walk(user: Any, camera: Camera) -> None:
    """Do the tutorial of the README and take a picture of each step."""
    walkAbdomen(user, camera)
    walkHeart(user, camera)


def walkAbdomen(user: Any, camera: Camera) -> None:
    """Segment the sample CT, from choosing it to its uncertainty."""
    import slicer
    import slicer.util

    from UDFASegmentationLib.SampleDataSources import ABDOMEN_CT, sampleFolder

    volume = slicer.util.loadVolume(str(sampleFolder() / ABDOMEN_CT.fileName), {"name": ABDOMEN_CT.name})
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(*WINDOW_HU)
    camera.show(volume)
    user.panel.parameters.preselectVolume()
    user.ui.uncertaintyCheckBox.checked = True
    user.settle(60)
    camera.take(user.parent, "1-choose")
    user.click("segmentButton")
    total = volume.GetImageData().GetDimensions()[2]
    user.until(lambda: user.ui.progressBar.value >= total // 3, 600)
    camera.take(user.parent, "2-running")
    user.settle(600)
    user.click("show3DButton")
    display = user.panel.parameterNode.resultSegmentation.GetDisplayNode()
    display.SetOpacity2DFill(0.45)
    user.click("nextDoubtfulButton")
    camera.lookAtSurfaces()
    camera.take(user.parent, "3-result")
    user.ui.overlayCheckBox.checked = True
    display.SetOpacity2DFill(0.0)
    camera.take(user.parent, "4-uncertainty")
    user.ui.overlayCheckBox.checked = False
    user.ui.uncertaintyCheckBox.checked = False


def walkHeart(user: Any, camera: Camera) -> None:
    """Segment both phases of the sample cine series, shown as Slicer's Sequences module does, and go to the second."""
    import slicer

    from UDFASegmentationLib.SlicerChecks import loadCine
    from UDFASegmentationLib.UncertaintyReview import jumpTo

    browser = loadCine()
    volume = browser.GetProxyNode(browser.GetMasterSequenceNode())
    node, selector = user.panel.parameterNode, user.ui.modelSelector
    node.resultSegmentation.GetDisplayNode().SetVisibility(False)
    camera.show(volume)
    node.inputVolume = volume
    titles = [selector.itemText(index) for index in range(selector.count)]
    selector.setCurrentIndex(next(index for index, title in enumerate(titles) if "cardiac" in title.lower()))
    user.ui.allFramesCheckBox.checked = True
    user.settle(60)
    user.click("segmentButton")
    user.settle(600)
    user.click("show3DButton")
    user.click("endSystoleButton")
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    user.settle(60)
    node.resultSegmentation.GetDisplayNode().SetOpacity2DFill(0.45)
    right, anterior, superior = node.resultSegmentation.GetSegmentCenterRAS("myocardium")
    jumpTo((right, anterior, superior + CINE_SLICE_MM))
    camera.lookAtSurfaces()
    camera.take(user.parent, "5-cine")


def openPanel(harness: Any) -> Any:
    """Open the panel on the bundled model, with everything as if it was installed."""
    user = harness.Harness()
    user.open(installer=None)
    user.widget.enter()
    return user


def main(arguments: list[str] | None = None, walkThrough: Callable[[Any, Camera], None] = walk) -> int:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description="Take the README's pictures of the panel.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "Resources" / "Screenshots")
    folder = parser.parse_args(arguments).folder
    # torch comes first: see headless/views.py.
    import udfa.inference  # noqa: F401

    harness = loadDoubles()
    with tempfile.TemporaryDirectory() as settings, harness.installed(Path(settings)):
        # The views come first: the panel then finds their nodes, as in Slicer.
        camera = Camera(folder, HEIGHT)
        user = openPanel(harness)
        try:
            walkThrough(user, camera)
        finally:
            user.close()
            camera.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
