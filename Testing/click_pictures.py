"""Before and after a click, for the README: a real mistake of the bundled checkpoint, corrected in a real MRML view.

    python Testing/click_pictures.py [FOLDER] [--model NAME] [--label NAME]     (default: Resources/Screenshots)

Segments the bundled CT, looks for the organ that one click corrects most, and makes this click with the effect UDFA
Click: a mouse event in a slice view, on Slicer's own Segment Editor logic. Writes click-before.png and click-after.png;
the white line is the reference. Prints what was clicked, and the organ's Dice before and after.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "UDFASegmentation"), str(ROOT / "Testing")]

from screenshots import WINDOW_HU, loadDoubles  # noqa: E402

SIZE = (520, 420)
"""(width, height) of a picture in pixels."""

FIELD_MM = 190.0
"""Width of what a picture shows."""

SAMPLE = ROOT / "Resources" / "sample"
BEFORE, AFTER = "click-before", "click-after"
SECONDS = 120.0
"""How long a click may take."""


@dataclass(frozen=True)
class Mistake:
    """A mistake and the click that corrects it.

    Attributes:
        value: Label value.
        position: Voxel (D, H, W) to click.
        positive: It belongs to the label, or does not.
        corrected: Voxels of the label that the click puts right, less those that it makes wrong.
    """

    value: int
    position: tuple[int, int, int]
    positive: bool
    corrected: int


def worst_mistake(session: Any, reference: NDArray[np.uint8], values: Sequence[int]) -> Optional[Mistake]:
    """Return the mistake that one click corrects most; None if no click corrects anything. The labels stay as they are.

    Args:
        session: CorrectionSession.
        reference: (D, H, W) labels as they should be.
        values: Labels to look at.
    """
    from Benchmarks.robots import ROBOTS, next_click

    found = []
    for value in values:
        wanted = reference == value
        spacing, random = session.network.volume.spacing_mm, np.random.default_rng(0)
        wrong = int(np.count_nonzero((session.labelmap == value) != wanted))
        click = next_click(session.labelmap == value, wanted, spacing, ROBOTS[0], random, session.slice_axis)
        if click is None or not wanted.any():
            continue
        session.click(click.position, value, click.positive)
        left = int(np.count_nonzero((session.labelmap == value) != wanted))
        session.undo()
        found.append(Mistake(value, click.position, click.positive, wrong - left))
    best = max(found, key=lambda mistake: mistake.corrected, default=None)
    return best if best is not None and best.corrected > 0 else None


class Scene:
    """The bundled CT, its automatic segmentation, and the Segment Editor with UDFA Click on a slice view.

    Args:
        model: Name or path of the checkpoint; None for the default one.
    """

    def __init__(self, model: Optional[str]) -> None:
        import slicer
        import slicer.util

        from headless.views import SliceView
        from udfa.volume_io import read_volume
        from UDFASegmentationLib.SegmentationLogic import SegmentationLogic

        logic = SegmentationLogic()
        self.model = logic.model(model)
        self.volume = slicer.util.loadVolume(str(SAMPLE / "abdomen_ct.nii.gz"), {"name": "Abdominal CT"})
        self.volume.GetDisplayNode().AutoWindowLevelOff()
        self.volume.GetDisplayNode().SetWindowLevelMinMax(*WINDOW_HU)
        self.segmentation = logic.segmentVolume(self.volume, self.model)
        self.segmentation.GetDisplayNode().SetOpacity2DFill(0.35)
        self.reference = read_volume(SAMPLE / "abdomen_ct_reference.nii.gz").array.astype(np.uint8)
        self.view = SliceView("Axial", SIZE, "Red")
        self.view.show(self.volume)

    def labelmap(self) -> NDArray[np.uint8]:
        """The segments as a labelmap with the model's values."""
        import slicer.util

        found = np.zeros(self.reference.shape, np.uint8)
        known = set(self.segmentation.GetSegmentation().GetSegmentIDs())
        for value, label in enumerate(self.model.labels, start=1):
            if label.name in known:
                voxels = slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, label.name, self.volume)
                found[voxels > 0] = value
        return found

    def mistake(self, label: Optional[str]) -> Mistake:
        """Return the mistake to show: the one of a label, or of all labels the one that a click corrects most."""
        from udfa.interaction import CorrectionSession, SessionOptions
        from UDFASegmentationLib.VolumeConversion import readVolume

        names = [one.name for one in self.model.labels]
        values = range(1, len(names) + 1) if label is None else [names.index(label) + 1]
        labelmap, options = self.labelmap(), SessionOptions()
        session = CorrectionSession(self.model.engine, readVolume(self.volume), labelmap, options)  # type: ignore[arg-type]
        found = worst_mistake(session, self.reference, [v for v in values if (labelmap == v).any()])
        if found is None:
            raise SystemExit("No click corrects anything here.")
        return found

    def outline(self, value: int) -> None:
        """Show a label of the reference as a white line."""
        import slicer

        from UDFASegmentationLib.VolumeConversion import orientedImage

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "reference")
        node.CreateDefaultDisplayNodes()
        mask = (self.reference == value).astype(np.uint8)
        segment = slicer.vtkSegment()
        segment.SetColor(1, 1, 1)
        image = orientedImage(mask, tuple(slice(0, n) for n in mask.shape), self.volume)  # type: ignore[arg-type]
        segment.AddRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName(), image)
        node.GetSegmentation().AddSegment(segment, "reference")
        node.GetDisplayNode().SetOpacity2DFill(0)
        node.GetDisplayNode().SetSliceIntersectionThickness(2)

    def dice(self, value: int) -> float:
        """Dice of a label against the reference."""
        from udfa.metrics import dice

        return float(dice(self.labelmap() == value, self.reference == value))


def click(scene: Scene, mistake: Mistake) -> str:
    """Make the click with the effect, by mouse events in the view; returns what the effect says."""
    import time

    import slicer
    import slicer.util
    import vtk

    from doubles.scripted_effect import Editor, Layout, ViewWidget, effectModules
    from UDFASegmentationLib.ClickGrid import clickGrid

    with effectModules():
        from UDFASegmentationLib.ClickEffect import ClickEffect

        widget = ViewWidget(scene.view.node, scene.view._interactor, scene.view.renderer)
        slicer.app._layoutManager = Layout(widget)
        editor = Editor(scene.segmentation, scene.volume, ClickEffect)
        editor.select(scene.model.labels[mistake.value - 1].name)
        editor.observe(widget)
        editor.activate()
        place = clickGrid(scene.volume, scene.segmentation).positionOf(mistake.position)
        matrix = np.linalg.inv(slicer.util.arrayFromVTKMatrix(scene.view.node.GetXYToRAS()))
        x, y = (round(c) for c in (matrix @ [*place, 1.0])[:2])
        for event in (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonReleaseEvent):
            widget.interactor.SetEventInformation(x, y, int(not mistake.positive), 0, "\0", 0, None)
            widget.interactor.InvokeEvent(event)
        deadline = time.monotonic() + SECONDS
        while editor.effect.controller.busy and time.monotonic() < deadline:
            slicer.app.processEvents()
        return str(editor.effect.controller.status)


def take_pictures(folder: Path, model: Optional[str], label: Optional[str]) -> str:
    """Take both pictures; returns what they show."""
    from udfa.volume_io import written_aside
    from UDFASegmentationLib.ClickGrid import clickGrid

    scene = Scene(model)
    mistake = scene.mistake(label)
    scene.outline(mistake.value)
    scene.view.set_field_of_view(FIELD_MM, clickGrid(scene.volume, scene.segmentation).positionOf(mistake.position))
    folder.mkdir(parents=True, exist_ok=True)
    before = scene.dice(mistake.value)
    with written_aside(folder / f"{BEFORE}.png") as aside:
        scene.view.render(aside)
    said = click(scene, mistake)
    with written_aside(folder / f"{AFTER}.png") as aside:
        scene.view.render(aside)
    sign = "+" if mistake.positive else "-"
    title = scene.model.labels[mistake.value - 1].title
    scene.view.close()
    return f"{sign}{title} at voxel {mistake.position}: {said}; Dice {before:.3f} -> {scene.dice(mistake.value):.3f}"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Take the pictures from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument("--model", help="checkpoint that takes clicks (default: the bundled abdomen-ct-mini)")
    parser.add_argument("--label", help="show a mistake of this label (default: the one that a click corrects most)")
    options = parser.parse_args(arguments)
    # torch comes first: see headless/views.py.
    import udfa.inference  # noqa: F401

    harness = loadDoubles()
    with tempfile.TemporaryDirectory() as settings, harness.installed(Path(settings)):
        print(take_pictures(options.folder, options.model, options.label))
    return 0


if __name__ == "__main__":
    sys.exit(main())
