"""Our terminology entries are understood by Slicer's terminology logic, and use the codes of Slicer's lists."""

from __future__ import annotations

import pytest
import slicer

from udfa.labels import KNOWN_LABELS

# Copied by hand from "Segmentation category and type - 3D Slicer General Anatomy list", which lacks the inferior vena
# cava, the portal and splenic vein and the myocardium: type code, its meaning, code of the side.
GENERAL_ANATOMY_LIST = {
    "spleen": ("78961009", "Spleen", None),
    "right_kidney": ("64033007", "Kidney", "24028007"),
    "left_kidney": ("64033007", "Kidney", "7771000"),
    "gallbladder": ("28231008", "Gallbladder", None),
    "esophagus": ("32849002", "Esophagus", None),
    "liver": ("10200004", "Liver", None),
    "stomach": ("69695003", "Stomach", None),
    "aorta": ("15825003", "Aorta", None),
    "pancreas": ("15776009", "Pancreas", None),
    "right_adrenal": ("23451007", "Adrenal gland", "24028007"),
    "left_adrenal": ("23451007", "Adrenal gland", "7771000"),
    "right_ventricle": ("53085002", "Right Ventricle", None),
    "left_ventricle": ("87878005", "Left Ventricle", None),
}


@pytest.mark.parametrize("name", sorted(KNOWN_LABELS))
def test_slicer_parses_our_entry_and_writes_the_same_one(name: str):
    label = KNOWN_LABELS[name]
    logic, entry = slicer.modules.terminologies.logic(), slicer.vtkSlicerTerminologyEntry()
    assert logic.DeserializeTerminologyEntry(label.terminology(), entry)
    assert logic.SerializeTerminologyEntry(entry) == label.terminology()
    assert entry.GetCategoryObject().GetCodeValue() == "123037004"
    assert (entry.GetTypeObject().GetCodeValue(), entry.GetTypeObject().GetCodeMeaning()) == label.type[1:]
    side = label.modifier[2] if label.modifier else None
    assert entry.GetTypeModifierObject().GetCodeMeaning() == side


@pytest.mark.parametrize("name", sorted(GENERAL_ANATOMY_LIST))
def test_codes_are_those_of_slicers_general_anatomy_list(name: str):
    label = KNOWN_LABELS[name]
    code, meaning, side = GENERAL_ANATOMY_LIST[name]
    assert label.type == ("SCT", code, meaning)
    assert (label.modifier[1] if label.modifier else None) == side
