"""Module `ctk`: the CTK widgets that the panel uses."""

from __future__ import annotations

import types
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets

from doubles.qt_classes import PythonQtManners

HEADER_HEIGHT = 26


class ctkCollapsibleButton(PythonQtManners, QtWidgets.QAbstractButton):
    """A titled box whose contents are hidden while it is collapsed (CTK: Libs/Widgets/ctkCollapsibleButton.h)."""

    contentsCollapsedSignal = QtCore.Signal(bool)
    signatures: ClassVar[dict[str, str]] = {"contentsCollapsed(bool)": "contentsCollapsedSignal"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._collapsed = False
        self.setContentsMargins(0, HEADER_HEIGHT, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)

    def getCollapsed(self) -> bool:
        """Whether the contents are hidden."""
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        """Hide or show the contents; emits contentsCollapsed on a change."""
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget):
                if collapsed:
                    child._wasHidden = QtWidgets.QWidget.isHidden(child)
                QtWidgets.QWidget.setVisible(child, not collapsed and not getattr(child, "_wasHidden", False))
        self.setMaximumHeight(HEADER_HEIGHT if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsedSignal.emit(collapsed)

    collapsed = QtCore.Property(bool, getCollapsed, setCollapsed)

    def sizeHint(self) -> QtCore.QSize:
        """Size of the contents below the header, or of the header alone while collapsed."""
        layout = QtWidgets.QWidget.layout(self)
        return self._withHeader(layout.sizeHint() if layout is not None else QtCore.QSize())

    def minimumSizeHint(self) -> QtCore.QSize:
        """As sizeHint, with the smallest size that the contents allow."""
        layout = QtWidgets.QWidget.layout(self)
        return self._withHeader(layout.minimumSize() if layout is not None else QtCore.QSize())

    def _withHeader(self, contents: QtCore.QSize) -> QtCore.QSize:
        below = 0 if self._collapsed else max(0, contents.height())
        return QtCore.QSize(max(60, 0 if self._collapsed else contents.width()), HEADER_HEIGHT + below)

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:
        """A click on the header collapses or expands."""
        if event.position().y() <= HEADER_HEIGHT:
            self.setCollapsed(not self._collapsed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """Draw the header with its arrow and title."""
        painter = QtGui.QPainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), HEADER_HEIGHT - 2)
        option.state |= QtWidgets.QStyle.StateFlag.State_Raised
        style = QtWidgets.QWidget.style(self)
        style.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowDown
        if self._collapsed:
            arrow = QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowRight
        indicator = QtWidgets.QStyleOption(option)
        indicator.rect = QtCore.QRect(6, 6, 12, 12)
        style.drawPrimitive(arrow, indicator, painter, self)
        text = QtCore.QRect(24, 0, option.rect.width() - 30, option.rect.height())
        painter.drawText(text, QtCore.Qt.AlignmentFlag.AlignVCenter, QtWidgets.QAbstractButton.text(self))


class ctkMessageBox:
    """Message boxes must be answered by the test through slicer.util's functions, never opened."""

    def __init__(self, *arguments: Any) -> None:
        raise RuntimeError("A message box was opened in a test; lay down an answer with `harness.answers`.")


WIDGETS = {"ctkCollapsibleButton": ctkCollapsibleButton}


def makeCtkModule() -> types.ModuleType:
    """Return a fresh module `ctk` with the classes that the doubles cover, and nothing else."""
    module = types.ModuleType("ctk", "Double of PythonQt's module ctk.")
    module.ctkCollapsibleButton = ctkCollapsibleButton
    module.ctkMessageBox = ctkMessageBox
    return module
