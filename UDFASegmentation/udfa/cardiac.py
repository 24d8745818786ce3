"""Ventricular function from volumes over a cardiac cycle: end-diastole, end-systole, ejection fraction, mass.

Both ventricles are measured at the two phases of the left one, as ACDC's references are, so that their stroke volumes
can be compared. The mass is that of the myocardium at end-diastole times its density.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

LEFT_VENTRICLE, RIGHT_VENTRICLE, MYOCARDIUM = "left_ventricle", "right_ventricle", "myocardium"

MYOCARDIAL_DENSITY_G_PER_ML = 1.05
"""The usual value of cardiac MR reports (SCMR, doi 10.1186/s12968-020-00610-6)."""

CSV_COLUMNS = ("measure", "value", "unit")


class Measure(NamedTuple):
    """A number of a report.

    Attributes:
        name: Such as "LV EDV".
        value: In `unit`; NaN when it cannot be told.
        unit: mL, g or %.
    """

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Ventricle:
    """Volumes of one ventricle.

    Attributes:
        end_diastolic_ml: Volume at end-diastole (EDV).
        end_systolic_ml: Volume at end-systole (ESV).
    """

    end_diastolic_ml: float
    end_systolic_ml: float

    @property
    def stroke_volume_ml(self) -> float:
        """EDV - ESV."""
        return self.end_diastolic_ml - self.end_systolic_ml

    @property
    def ejection_fraction(self) -> float:
        """Stroke volume / EDV, from 0 to 1; NaN when the ventricle is empty at end-diastole."""
        return self.stroke_volume_ml / self.end_diastolic_ml if self.end_diastolic_ml > 0 else math.nan

    def measures(self, prefix: str) -> list[Measure]:
        """Return the numbers of a report; `prefix` is LV or RV."""
        return [
            Measure(f"{prefix} EDV", self.end_diastolic_ml, "mL"),
            Measure(f"{prefix} ESV", self.end_systolic_ml, "mL"),
            Measure(f"{prefix} SV", self.stroke_volume_ml, "mL"),
            Measure(f"{prefix} EF", 100 * self.ejection_fraction, "%"),
        ]


@dataclass(frozen=True)
class CardiacFunction:
    """What the volumes of a cardiac cycle tell.

    Attributes:
        end_diastole: Frame with the largest left ventricle, from 0.
        end_systole: Frame with the smallest left ventricle.
        left: The left ventricle.
        right: The right ventricle at the same frames; None when it was not segmented.
        myocardial_mass_g: Mass of the myocardium at end-diastole; None when it was not segmented.
        without_left: Frames in which no left ventricle was found; they are left out.
    """

    end_diastole: int
    end_systole: int
    left: Ventricle
    right: Optional[Ventricle]
    myocardial_mass_g: Optional[float]
    without_left: tuple[int, ...] = ()

    def measures(self) -> list[Measure]:
        """Return the numbers of a report, those of the left ventricle first."""
        found = self.left.measures("LV")
        if self.myocardial_mass_g is not None:
            found.append(Measure("LV mass", self.myocardial_mass_g, "g"))
        return found + (self.right.measures("RV") if self.right is not None else [])


def cardiac_function(frames_ml: Sequence[Mapping[str, float]]) -> Optional[CardiacFunction]:
    """Return the ventricular function of a cycle.

    Args:
        frames_ml: For each frame, in the order of time, the volume in mL of each label that was looked for, by name; 0
            for one that was not found.

    Returns:
        None when it cannot be told: fewer than two frames have a left ventricle.
    """
    volumes = [frame.get(LEFT_VENTRICLE, 0.0) for frame in frames_ml]
    beating = [index for index, volume in enumerate(volumes) if volume > 0]
    if len(beating) < 2:
        return None
    end_diastole = max(beating, key=volumes.__getitem__)
    end_systole = min(beating, key=volumes.__getitem__)
    at_ed, at_es = frames_ml[end_diastole], frames_ml[end_systole]

    def ventricle(name: str) -> Optional[Ventricle]:
        return Ventricle(at_ed[name], at_es[name]) if name in at_ed and name in at_es else None

    mass = at_ed[MYOCARDIUM] * MYOCARDIAL_DENSITY_G_PER_ML if MYOCARDIUM in at_ed else None
    return CardiacFunction(
        end_diastole=end_diastole,
        end_systole=end_systole,
        left=Ventricle(at_ed[LEFT_VENTRICLE], at_es[LEFT_VENTRICLE]),
        right=ventricle(RIGHT_VENTRICLE),
        myocardial_mass_g=mass,
        without_left=tuple(index for index in range(len(volumes)) if index not in beating),
    )


def write_measures(measures: Iterable[Measure], path: Path) -> None:
    """Write a report as CSV with the columns of CSV_COLUMNS; numbers that cannot be told stay empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for name, value, unit in measures:
            writer.writerow([name, "" if math.isnan(value) else f"{value:.2f}", unit])
