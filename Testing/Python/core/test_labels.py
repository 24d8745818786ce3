"""The label table: terminology as Slicer stores it, colours, and labels this project does not know."""

from __future__ import annotations

import numpy as np

from udfa.checkpoint import read_info
from udfa.labels import KNOWN_LABELS, describe
from udfa.models import list_models, resolve_model


def test_the_liver_has_its_snomed_code_in_slicers_serialised_form() -> None:
    assert describe("liver").terminology() == (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
        "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
    )


def test_the_kidneys_share_a_code_and_differ_by_side() -> None:
    right, left = describe("right_kidney"), describe("left_kidney")
    assert right.type == left.type == ("SCT", "64033007", "Kidney")
    assert right.modifier == ("SCT", "24028007", "Right")
    assert left.modifier == ("SCT", "7771000", "Left")


def test_known_labels_are_stored_under_their_names_with_different_colours() -> None:
    assert all(name == label.name for name, label in KNOWN_LABELS.items())
    assert len({label.color for label in KNOWN_LABELS.values()}) == len(KNOWN_LABELS)
    assert all(0 <= c <= 255 for label in KNOWN_LABELS.values() for c in label.color)


def test_the_parts_of_the_heart_which_all_touch_are_told_apart_by_their_hue() -> None:
    """As the checkpoint brings them along: right ventricle blue, myocardium green, left ventricle red."""
    labels = read_info(resolve_model("cardiac-mr-mini")).labels
    assert labels == tuple(KNOWN_LABELS[label.name] for label in labels)
    strongest = {label.name: int(np.argmax(label.color)) for label in labels}
    assert strongest == {"right_ventricle": 2, "myocardium": 1, "left_ventricle": 0}
    assert all(max(label.color) - sorted(label.color)[1] >= 70 for label in labels)


def test_every_label_of_the_bundled_models_is_known() -> None:
    models = [entry.info for entry in list_models() if entry.bundled and entry.info is not None]
    assert len(models) >= 2
    unknown = {name for info in models for name in info.config.labels} - set(KNOWN_LABELS)
    assert unknown == set()


def test_colours_for_slicer_lie_between_0_and_1() -> None:
    assert describe("spleen").color01 == (157 / 255, 108 / 255, 162 / 255)


def test_an_unknown_label_gets_a_readable_title_a_stable_colour_and_no_code() -> None:
    label = describe("left_big_toe")
    assert label.title == "Left big toe"
    assert label.terminology() is None
    assert label == describe("left_big_toe")
    assert label.color != describe("left_small_toe").color
