"""The labels this project knows: names, colours and SNOMED CT terminology, as Slicer shows and stores them.

Codes and colours are those of Slicer's "General Anatomy list", and for the structures it lacks (inferior vena cava,
portal and splenic vein, myocardium) those of the SNOMED mapping that TotalSegmentator publishes. Where the list would
give neighbours nearly the same colour (left and right organs, veins, stomach and liver), one of them has another. The
parts of the heart, all brown there, are blue, green and red, as figures of the field mostly have them.
"""

from __future__ import annotations

import colorsys
import zlib
from dataclasses import dataclass

TERMINOLOGY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"
ANATOMICAL_STRUCTURE = ("SCT", "123037004", "Anatomical Structure")
RIGHT = ("SCT", "24028007", "Right")
LEFT = ("SCT", "7771000", "Left")

Code = tuple[str, str, str]
"""Coding scheme, code value, code meaning."""


@dataclass(frozen=True)
class Label:
    """What is known of one label.

    Attributes:
        name: Stable identifier in snake_case, as data sets and checkpoints use it.
        title: Name that people read.
        color: Red, green, blue, each 0 to 255.
        type: SNOMED CT code of the structure, or None for labels this project does not know.
        modifier: Code for the side, or None.
    """

    name: str
    title: str
    color: tuple[int, int, int]
    type: Code | None = None
    modifier: Code | None = None

    @property
    def color01(self) -> tuple[float, float, float]:
        """Colour with components 0 to 1, as Slicer wants it."""
        red, green, blue = self.color
        return (red / 255, green / 255, blue / 255)

    def terminology(self) -> str | None:
        """Return Slicer's serialised terminology entry (7 parts joined by ~), or None for unknown labels."""
        if self.type is None:
            return None
        parts = [ANATOMICAL_STRUCTURE, self.type, self.modifier or ("", "", "")]
        codes = ["^".join(part) for part in parts]
        return "~".join([TERMINOLOGY_CONTEXT, *codes, REGION_CONTEXT, "^^", "^^"])


def _sct(code: str, meaning: str) -> Code:
    return ("SCT", code, meaning)


KNOWN_LABELS: dict[str, Label] = {
    label.name: label
    for label in (
        Label("spleen", "Spleen", (157, 108, 162), _sct("78961009", "Spleen")),
        Label("right_kidney", "Right kidney", (185, 102, 83), _sct("64033007", "Kidney"), RIGHT),
        Label("left_kidney", "Left kidney", (212, 126, 151), _sct("64033007", "Kidney"), LEFT),
        Label("gallbladder", "Gallbladder", (139, 150, 98), _sct("28231008", "Gallbladder")),
        Label("esophagus", "Esophagus", (211, 171, 143), _sct("32849002", "Esophagus")),
        Label("liver", "Liver", (221, 130, 101), _sct("10200004", "Liver")),
        Label("stomach", "Stomach", (160, 139, 76), _sct("69695003", "Stomach")),
        Label("aorta", "Aorta", (224, 97, 76), _sct("15825003", "Aorta")),
        Label("inferior_vena_cava", "Inferior vena cava", (0, 151, 206), _sct("64131007", "Inferior vena cava")),
        Label(
            "portal_and_splenic_vein",
            "Portal vein and splenic vein",
            (0, 112, 165),
            _sct("110765007", "Portal vein and splenic vein"),
        ),
        Label("pancreas", "Pancreas", (249, 180, 111), _sct("15776009", "Pancreas")),
        Label("right_adrenal", "Right adrenal gland", (249, 186, 150), _sct("23451007", "Adrenal gland"), RIGHT),
        Label("left_adrenal", "Left adrenal gland", (230, 158, 140), _sct("23451007", "Adrenal gland"), LEFT),
        Label("right_ventricle", "Right ventricle", (70, 130, 200), _sct("53085002", "Right Ventricle")),
        Label("myocardium", "Myocardium", (104, 178, 96), _sct("74281007", "Myocardium")),
        Label("left_ventricle", "Left ventricle", (214, 70, 70), _sct("87878005", "Left Ventricle")),
    )
}
"""Known labels by name: abdominal organs (CT) and cardiac chambers (MR)."""


def describe(name: str) -> Label:
    """Return the known label of that name, or one with a readable title and a stable colour of its own."""
    if name in KNOWN_LABELS:
        return KNOWN_LABELS[name]
    hue = (zlib.crc32(name.encode()) % 360) / 360
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 0.85)
    title = name.replace("_", " ").strip().capitalize()
    return Label(name, title, (round(red * 255), round(green * 255), round(blue * 255)))
