"""A small abdomen, the Segment Editor with UDFA Click around a fake network, and a user who clicks on voxels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from headless.samples import add_volume, fake_result, ijk_to_ras
from udfa.labels import describe
from UDFASegmentationLib.Contracts import LoadedModel
from UDFASegmentationLib.SegmentationWriter import writeResult

LABELS = ("liver", "spleen", "stomach")
LIVER, SPLEEN = 1, 2
SHAPE = (6, 32, 32)
MATRIX = ijk_to_ras((1.0, 1.0, 2.0), np.diag([-1.0, -1.0, 1.0]), (10.0, 20.0, -5.0))
"""Axes to left, posterior, superior, as in most CT; pixels of 1 mm, slices of 2 mm."""


def image() -> np.ndarray:
    """Liver of 60 HU in columns 4-15, spleen of 120 HU in columns 16-25, both in rows 8-23; fat around."""
    hu = np.full(SHAPE, -100, np.int16)
    hu[1:5, 8:24, 4:16] = 60
    hu[1:5, 8:24, 16:26] = 120
    return hu


def truth() -> np.ndarray:
    return np.select([image() == 60, image() == 120], [LIVER, SPLEEN]).astype(np.uint8)


def half_liver() -> np.ndarray:
    """The liver without its columns 10-15."""
    labelmap = truth()
    labelmap[:, :, 10:16] = 0
    return labelmap


def greedy_spleen() -> np.ndarray:
    """The spleen has the liver's columns 10-15."""
    labelmap = truth()
    labelmap[:, :, 10:16][labelmap[:, :, 10:16] == LIVER] = SPLEEN
    return labelmap


def plainView() -> Any:
    """A slice view without a window: a slice node and an interactor."""
    from doubles.scripted_effect import ViewWidget

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    node.SetLayoutName("Red")
    node.SetDimensions(32, 32, 1)
    node.SetFieldOfView(32, 32, 2)
    return ViewWidget(node, vtk.vtkGenericRenderWindowInteractor())


class Bench:
    """A volume, a segmentation, the editor with the tool, and a user who clicks on voxels."""

    def __init__(
        self, labelmap: np.ndarray, matrix: np.ndarray = MATRIX, widget: Any = None, segmenter: Any = None
    ) -> None:
        from doubles.scripted_effect import Editor, Layout
        from fakes.clicks import FakeSegmenter, by_intensity
        from UDFASegmentationLib.ClickEffect import ClickEffect
        from UDFASegmentationLib.ClickModels import ClickServices
        from UDFASegmentationLib.Settings import Preferences

        self.segmenter = segmenter or FakeSegmenter(by_intensity((40, 90, LIVER), (100, 150, SPLEEN)))
        self.labels = tuple(describe(name) for name in LABELS)
        model = LoadedModel(self.segmenter, self.labels, "fake", "0123abcd")
        self.volume = add_volume(image(), matrix)
        self.segmentation = writeResult(self.volume, fake_result(labelmap), model)
        info = SimpleNamespace(labels=self.labels, config=self.segmenter.config, content_sha256="0123abcd")
        self.entries = [SimpleNamespace(path=Path("fake.safetensors"), info=info, name="fake")]
        self.gate = threading.Event()
        self.gate.set()

        def load(path: Path, preferences: Any) -> LoadedModel:
            self.gate.wait(10)
            return model

        class Effect(ClickEffect):
            services = ClickServices(lambda: self.entries, load, Preferences)

        self.widget = widget or plainView()
        slicer.app._layoutManager = Layout(self.widget)
        self.editor = Editor(self.segmentation, self.volume, Effect)
        self.editor.select("liver")
        self.effect = self.editor.effect
        self.editor.observe(self.widget)
        self.editor.activate()

    @property
    def controller(self) -> Any:
        return self.effect.controller

    @property
    def prompts(self) -> list[tuple[tuple[int, int, int], int, bool]]:
        return [(click.position, click.value, click.positive) for click in self.controller.clicks]

    def labelmaps(self) -> dict[str, np.ndarray]:
        """Every segment on the volume's grid, read by Slicer's own function."""
        return self.labelmaps_on(self.volume)

    def labelmaps_on(self, volume: Any) -> dict[str, np.ndarray]:
        """Every segment on the grid of a volume, which may have left the scene."""
        return {
            segment_id: slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segment_id, volume) > 0
            for segment_id in self.segmentation.GetSegmentation().GetSegmentIDs()
        }

    def ras(self, voxel: tuple[int, int, int]) -> tuple[float, float, float]:
        from UDFASegmentationLib.ClickGrid import clickGrid

        return clickGrid(self.volume, self.segmentation).positionOf(voxel)

    def click(self, *voxels: tuple[int, int, int], positive: bool = True) -> str:
        """Click at voxels (several make a stroke), wait for the answer, and return the status."""
        self.controller.carrySlices = self.editor.host.integerParameter("CarrySlices")
        self.controller.click([self.ras(voxel) for voxel in voxels], positive)
        self.settle()
        return self.controller.status

    def settle(self, seconds: float = 20.0) -> None:
        self.until(lambda: not self.controller.busy and not self.effect._timer.isActive(), seconds)

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"Still waiting: {self.controller.status}"
            slicer.app.processEvents()

    def undo(self) -> None:
        self.editor.logic.Undo()
        self.settle()

    def redo(self) -> None:
        self.editor.logic.Redo()
        self.settle()


@contextmanager
def benches() -> Iterator[Callable[..., Bench]]:
    """Make benches, and take them apart at the end."""
    made: list[Bench] = []

    def create(*arguments: Any, **named: Any) -> Bench:
        made.append(Bench(*arguments, **named))
        return made[-1]

    try:
        yield create
    finally:
        for bench in made:
            bench.editor.close()
