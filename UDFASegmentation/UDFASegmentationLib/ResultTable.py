"""The table of segments: filled, copied to the clipboard, saved as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from UDFASegmentationLib.SegmentMeasurement import MeasuredSegment

COLUMNS = ("Segment", "Volume (mL)", "Mean intensity", "Status")
VISIBLE_ROWS = 14
"""So many segments are visible without scrolling inside the table."""

HEADER_HEIGHT = 32
"""Room for the titles and the frame, in pixels."""


class ResultTable:
    """Shows measured segments.

    Args:
        ui: The panel's widgets.
        onSegmentChosen: Called with a segment ID when its line is double-clicked.
    """

    def __init__(self, ui: Any, onSegmentChosen: Callable[[str], None]) -> None:
        self._ui = ui
        self._rows: list[MeasuredSegment] = []
        table = ui.resultTable
        table.setColumnCount(len(COLUMNS))
        table.setHorizontalHeaderLabels([_(title) for title in COLUMNS])
        table.verticalHeader().hide()
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.connect("cellDoubleClicked(int,int)", lambda row, column: onSegmentChosen(self._rows[row].segmentID))
        ui.copyTableButton.connect("clicked()", self.copy)
        ui.saveTableButton.connect("clicked()", self.saveAs)
        self.show([])

    @property
    def rows(self) -> Sequence[MeasuredSegment]:
        """What is shown."""
        return tuple(self._rows)

    def show(self, rows: Sequence[MeasuredSegment]) -> None:
        """Show these lines instead of the present ones."""
        self._rows = list(rows)
        table = self._ui.resultTable
        table.setRowCount(len(self._rows))
        model = table.model()
        for line, row in enumerate(self._rows):
            for column, text in enumerate(cells(row)):
                # The table makes the item: whether it takes over one made by Python differs between PythonQts.
                model.setData(model.index(line, column), text)
                item = table.item(line, column)
                item.setToolTip(_("{title}: double-click shows it in the slice views").format(title=row.title))
                if column == 0:
                    red, green, blue = (round(255 * c) for c in row.color)
                    item.setData(qt.Qt.DecorationRole, qt.QColor(red, green, blue))
                elif column in (1, 2):
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        table.resizeRowsToContents()
        shown = min(len(self._rows), VISIBLE_ROWS)
        table.setMinimumHeight(HEADER_HEIGHT + sum(table.rowHeight(line) for line in range(shown)))
        for button in (self._ui.copyTableButton, self._ui.saveTableButton):
            button.enabled = bool(self._rows)

    def copy(self) -> None:
        """Put the table on the clipboard, with tabs between columns, as spreadsheets paste it."""
        slicer.app.clipboard().setText(formatRows(self._rows, "\t"))

    def saveAs(self) -> None:
        """Ask for a file and save the table as CSV."""
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save table"), "segments.csv", "CSV (*.csv)")
        if not name:
            return
        path = Path(name) if Path(name).suffix else Path(f"{name}.csv")
        try:
            saveCsv(path, self._rows)
        except OSError as error:
            text = _("The table was not saved to {path}: {reason}.").format(path=path, reason=error.strerror or error)
            slicer.util.errorDisplay(text, windowTitle=_("Save table"))


def cells(row: MeasuredSegment) -> tuple[str, str, str, str]:
    """Return the texts of a line; intensities of empty segments stay blank."""
    mean = "" if math.isnan(row.meanIntensity) else f"{row.meanIntensity:.1f}"
    return (row.title, f"{row.volumeML:.2f}", mean, _(row.status))


def formatRows(rows: Sequence[MeasuredSegment], delimiter: str) -> str:
    """Return header and lines as text with a delimiter, fields quoted where needed."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(cells(row) for row in rows)
    return text.getvalue()


def saveCsv(path: Path, rows: Sequence[MeasuredSegment]) -> None:
    """Write the table as CSV, aside and then renamed."""
    from udfa.volume_io import written_aside

    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        file.write(formatRows(rows, ","))
