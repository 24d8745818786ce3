"""Slice and 3D views without a window: Slicer's own displayable managers draw into offscreen render windows.

Import this only where OpenGL works (`headless.requirements.missing_rendering`): elsewhere VTK ends the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

# Mesa's software renderer and triton, which torchvision loads, each bring an LLVM; the process survives only if triton
# comes first. TritonGuard.py has the details.
import udfa.inference  # noqa: F401
from headless.boot import boot
from headless.requirements import rendering_environment

if TYPE_CHECKING:
    from typing_extensions import Self

# VTK looks for a display otherwise, and warns when there is none.
os.environ.update(rendering_environment())

SLICE_MANAGERS = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D")
THREE_D_MANAGERS = (
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
SUPERSAMPLING = 2
"""Pictures are drawn this many times larger and then averaged, which smooths every kind of edge."""

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB, first row on top."""


class _View:
    """An offscreen render window with the displayable managers of one kind of view.

    Use it as a context manager: at the end it takes its nodes out of the scene, which keeps view nodes when cleared.
    """

    node: Any
    """The slice or view node."""

    def __init__(
        self, size: tuple[int, int], factory: Any, managers: tuple[str, ...], *background: vtk.vtkProp
    ) -> None:
        self.size = size
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
        self.window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        # Props are drawn in the order in which they were added: what lies behind comes first.
        for prop in background:
            self.renderer.AddViewProp(prop)
        factory.SetMRMLApplicationLogic(boot().application_logic)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.managers = factory.InstantiateDisplayableManagers(self.renderer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the view's nodes out of the scene and free the window."""
        scene = boot().scene
        self.managers.SetMRMLDisplayableNode(None)
        for node in (*self.companions(), self.node):
            if node is not None and node.GetScene() is not None:
                scene.RemoveNode(node)
        self.window.Finalize()

    def companions(self) -> tuple[Any, ...]:
        """Return the nodes that came with the view node."""
        return ()

    def render(self, path: Path | None = None) -> Picture:
        """Draw the scene as it is now; also write it as PNG if a path is given."""
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.SetInputBufferTypeToRGB()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        pixels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)
        n = SUPERSAMPLING
        blocks = pixels[::-1].reshape(height // n, n, width // n, n, 3)
        picture = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
        if path is not None:
            write_picture(path, picture)
        return picture


class SliceView(_View):
    """A slice view: background volume, segmentations as fill and outline.

    Args:
        orientation: Axial, Coronal or Sagittal.
        size: (width, height) in pixels.
        name: Layout name of the view; views that are open at the same time need different ones.
    """

    def __init__(self, orientation: str = "Axial", size: tuple[int, int] = (400, 400), name: str = "") -> None:
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        image = vtk.vtkActor2D()
        image.SetMapper(self._mapper)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(size, factory, SLICE_MANAGERS, image)
        headless = boot()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(headless.application_logic)
        self.logic.SetMRMLScene(headless.scene)
        self.node = self.logic.AddSliceNode(name or orientation)
        self.node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(*self.window.GetSize())
        self.managers.SetMRMLDisplayableNode(self.node)

    def companions(self) -> tuple[Any, ...]:
        """Return the nodes that came with the view node."""
        logic = self.logic
        parts = (logic.GetSliceCompositeNode(), logic.GetSliceModelNode(), logic.GetSliceModelDisplayNode())
        return (*parts, logic.GetSliceModelTransformNode(), logic.GetSliceDisplayNode())

    def render(self, path: Path | None = None) -> Picture:
        """Draw the scene as it is now; also write it as PNG if a path is given."""
        # The logic makes another output for another number of layers.
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        return super().render(path)

    def show(self, volume: Any) -> None:
        """Show a volume, fitted into the view, in its middle slice."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self.logic.FitSliceToBackground()

    def go_to(self, offset_mm: float) -> None:
        """Move to the slice at a position along the view's normal, in mm."""
        self.logic.SetSliceOffset(offset_mm)

    def set_field_of_view(self, width_mm: float, centre_ras: tuple[float, float, float]) -> None:
        """Zoom to a width in mm, with a world position in the centre; the slice goes through that position."""
        width, height = self.window.GetSize()
        _, _, depth = self.node.GetFieldOfView()
        self.node.SetFieldOfView(width_mm, width_mm * height / width, depth)
        self.node.JumpSliceByCentering(*centre_ras)


class ThreeDView(_View):
    """A 3D view: models, and closed surfaces of segmentations.

    Args:
        size: (width, height) in pixels.
        background: RGB 0 to 1.
        name: Layout name of the view; views that are open at the same time need different ones.
    """

    def __init__(
        self,
        size: tuple[int, int] = (400, 400),
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        name: str = "1",
    ) -> None:
        super().__init__(size, slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), THREE_D_MANAGERS)
        headless = boot()
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(headless.application_logic)
        self.logic.SetMRMLScene(headless.scene)
        self.node = self.logic.AddViewNode(name)
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.node.SetBackgroundColor(*background)
        self.node.SetBackgroundColor2(*background)
        self.managers.SetMRMLDisplayableNode(self.node)

    def companions(self) -> tuple[Any, ...]:
        """Return the nodes that came with the view node."""
        return (self.logic.GetCameraNode(),)

    def look_from(self, direction_ras: tuple[float, float, float], margin: float = 0.04) -> None:
        """Look from a direction (RAS), with superior up, so that all that is shown just fills the view.

        Args:
            direction_ras: From the patient towards the eye; (0, 1, 0) looks at the patient from the front.
            margin: Share of the view that stays free on each side.
        """
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*direction_ras)
        camera.SetViewUp(0, 0, 1)
        self.renderer.ResetCamera()
        for _ in range(2):
            self._fill_view(margin)

    def _fill_view(self, margin: float) -> None:
        """Pan and zoom to the pixels that are not background. Perspective makes this inexact: repeat it once."""
        picture = self.render().astype(int)
        shown = np.abs(picture - picture[0, 0]).max(axis=2) > 8
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        if len(rows) == 0:
            return
        height, width = shown.shape
        camera = self.renderer.GetActiveCamera()
        mm_per_pixel = 2 * camera.GetDistance() * np.tan(np.radians(camera.GetViewAngle() / 2)) / height
        up, toward = np.asarray(camera.GetViewUp()), np.asarray(camera.GetDirectionOfProjection())
        right = np.cross(toward, up)
        shift = right * ((columns[0] + columns[-1]) / 2 - width / 2) - up * ((rows[0] + rows[-1]) / 2 - height / 2)
        for get, put in (
            (camera.GetFocalPoint, camera.SetFocalPoint),
            (camera.GetPosition, camera.SetPosition),
        ):
            put(*(np.asarray(get()) + shift * mm_per_pixel))
        free = 1 - 2 * margin
        camera.Zoom(min(free * height / (rows[-1] - rows[0] + 1), free * width / (columns[-1] - columns[0] + 1)))
        self.renderer.ResetCameraClippingRange()


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture as PNG."""
    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(
        numpy_support.numpy_to_vtk(np.ascontiguousarray(picture[::-1]).reshape(-1, 3), True)
    )
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
