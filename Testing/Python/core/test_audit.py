"""The record of a correction."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.clicks import LIVER, SPLEEN, FakeSegmenter, by_intensity, stubborn
from udfa.audit import Audit, ClickRecord, LabelEffect, ModelReference, ijk_to_ras, read_audit
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.interaction import CorrectionSession, SessionOptions

START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
BY_HU = by_intensity((80, 120, LIVER), (180, 220, SPLEEN))
SHAPE = (6, 24, 30)


class Clock:
    """Advances by a second per look."""

    def __init__(self) -> None:
        self.time = START - timedelta(seconds=1)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def liver_block() -> np.ndarray:
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:5, 5:15, 5:15] = LIVER
    return truth


def recorded(opinion: Any = BY_HU, labels: np.ndarray | None = None) -> tuple[CorrectionSession, Audit]:
    """A session on a volume with voxels of 2 x 1 x 0.5 mm and LPS origin (10, 20, 30), and its record."""
    truth = liver_block()
    volume = Volume((truth * 100).astype(np.int16), (2.0, 1.0, 0.5), np.eye(3)[:, ::-1].copy(), (10.0, 20.0, 30.0))
    segmenter: Any = FakeSegmenter(opinion)
    audit = Audit(volume, segmenter.config.labels, ModelReference("test-model", "ab" * 32), Clock())
    start = np.zeros(SHAPE, np.uint8) if labels is None else labels
    return CorrectionSession(segmenter, volume, start, SessionOptions(), audit), audit


def test_a_click_is_recorded_with_time_place_label_and_effect() -> None:
    session, audit = recorded()
    session.click((2, 8, 6), LIVER)
    (edit,) = audit.edits
    assert (edit.number, edit.time, edit.kind) == (1, "2026-01-02T03:04:05.678+00:00", "click")
    assert (edit.label, edit.value, edit.sign) == ("liver", LIVER, "+")
    # Voxel I=6, J=8, K=2: LPS (10 + 6 * 0.5, 20 + 8 * 1, 30 + 2 * 2).
    assert edit.clicks == (ClickRecord((6, 8, 2), (-13.0, -28.0, 34.0)),)
    # The block is 5 mm wide: a correction of radius 2.5 mm carries 7.5 mm, which is to both ends.
    assert (edit.changed_voxels, edit.changed_ml) == (400, 0.4)
    assert edit.effect == {"liver": LabelEffect(400, 0.4)}
    assert edit.box_ijk == (5, 15, 5, 15, 1, 5)
    assert edit.slices == (1, 2, 3, 4)
    assert (edit.undone, edit.note) == (False, "")
    assert edit.seconds > 0


def test_the_effect_says_who_won_and_who_lost() -> None:
    session, audit = recorded(labels=np.where(liver_block() == LIVER, SPLEEN, 0).astype(np.uint8))
    session.click((2, 8, 6), LIVER)
    assert audit.edits[0].effect == {"liver": LabelEffect(400, 0.4), "spleen": LabelEffect(-400, -0.4)}


def test_a_click_without_effect_is_recorded_with_the_reason() -> None:
    session, audit = recorded()
    session.click((0, 0, 0), LIVER, positive=False)
    (edit,) = audit.edits
    assert (edit.sign, edit.changed_voxels, edit.box_ijk, edit.effect) == ("-", 0, None, {})
    assert "as wanted" in edit.note


def test_scribbles_and_manual_edits_are_recorded_as_such() -> None:
    session, audit = recorded()
    session.scribble([(2, 8, 6), (2, 8, 9)], LIVER)
    painted = session.labelmap.copy()
    painted[0, 0, :3] = 77
    session.take_up(painted)
    scribble, manual = audit.edits
    assert (scribble.kind, len(scribble.clicks)) == ("scribble", 2)
    assert (manual.kind, manual.label, manual.sign, manual.clicks) == ("manual", None, None, ())
    assert manual.effect == {"label_77": LabelEffect(3, 0.003)}


def test_what_was_undone_stays_in_the_record_and_is_marked() -> None:
    session, audit = recorded(stubborn)
    for column in (2, 12, 22):
        session.click((2, 12, column), LIVER)
    session.undo()
    session.undo()
    assert [edit.undone for edit in audit.edits] == [False, True, True]
    session.redo()
    assert [edit.undone for edit in audit.edits] == [False, False, True]
    session.click((2, 2, 2), SPLEEN)
    session.undo()
    session.undo()
    assert [edit.undone for edit in audit.edits] == [False, True, True, True]
    assert [edit.number for edit in audit.edits] == [1, 2, 3, 4]


def test_an_undo_beyond_the_depth_of_the_history_leaves_the_record_alone() -> None:
    session, audit = recorded(stubborn)
    session.click((2, 12, 2), LIVER)
    assert session.undo() is not None
    assert session.undo() is None
    assert [edit.undone for edit in audit.edits] == [True]


def test_the_record_survives_the_way_to_json_and_back() -> None:
    session, audit = recorded()
    session.scribble([(2, 8, 6), (2, 8, 9)], LIVER)
    session.click((2, 8, 6), LIVER)
    session.click((5, 20, 20), SPLEEN)
    session.take_up(np.zeros(SHAPE, np.uint8))
    session.undo()
    document = read_audit(audit.to_json())
    assert document.edits == tuple(audit.edits)
    assert document.model == audit.model
    assert document.labels == {1: "liver", 2: "spleen", 3: "stomach"}
    assert document.image["dimensions_ijk"] == [30, 24, 6]
    assert document.image["spacing_mm_ijk"] == [0.5, 1.0, 2.0]


def test_the_document_has_exactly_the_keys_that_are_promised() -> None:
    session, audit = recorded()
    session.click((2, 8, 6), LIVER)
    document = json.loads(audit.to_json())
    assert list(document) == ["format", "format_version", "package_version", "model", "image", "labels", "edits"]
    assert (document["format"], document["format_version"]) == ("udfa-audit", 1)
    assert document["model"] == {"name": "test-model", "content_sha256": "ab" * 32}
    assert document["image"]["ijk_to_ras"] == [[-0.5, 0, 0, -10], [0, -1, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]
    assert document["labels"][1] == {"value": 2, "name": "spleen"}
    assert list(document["edits"][0]) == [
        "number", "time", "kind", "label", "value", "sign", "clicks", "changed_voxels", "changed_ml", "effect",
        "box_ijk", "slices", "seconds", "undone", "note",
    ]  # fmt: skip
    assert document["edits"][0]["clicks"] == [{"ijk": [6, 8, 2], "ras_mm": [-13.0, -28.0, 34.0]}]
    assert document["edits"][0]["effect"] == {"liver": {"voxels": 400, "ml": 0.4}}


def test_keys_that_are_not_known_are_passed_over() -> None:
    session, audit = recorded()
    session.click((2, 8, 6), LIVER)
    document = json.loads(audit.to_json())
    document["later"] = document["edits"][0]["later"] = document["model"]["later"] = 1
    assert read_audit(json.dumps(document)).edits == tuple(audit.edits)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "other"}', '{"format": "udfa-audit", "format_version": 1}', "null", "3"],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"case\.audit\.json is no record of corrections"):
        read_audit(text, "case.audit.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", "x"),
        ("box_ijk", [1, 2]),
        ("clicks", [{"ijk": [1, 2]}]),
        ("time", "yesterday"),
        ("seconds", float("nan")),
        ("changed_ml", float("inf")),
        ("number", 1e400),
        ("note", "\ud800"),
    ],
)
def test_a_damaged_edit_is_refused(key: str, value: object) -> None:
    """The last four could be read, but not be written again."""
    session, audit = recorded()
    session.click((2, 8, 6), LIVER)
    document = json.loads(audit.to_json())
    document["edits"][0][key] = value
    with pytest.raises(InvalidInputError, match="damaged"):
        read_audit(json.dumps(document))


def test_endless_brackets_are_no_record() -> None:
    with pytest.raises(InvalidInputError, match="damaged"):
        read_audit("[" * 100_000)


def test_a_record_of_a_newer_version_asks_for_an_update() -> None:
    with pytest.raises(InvalidInputError, match="Update"):
        read_audit('{"format": "udfa-audit", "format_version": 2}')


def test_the_record_is_written_aside(tmp_path: Path) -> None:
    session, audit = recorded()
    session.click((2, 8, 6), LIVER)
    audit.save(tmp_path / "case.audit.json")
    assert read_audit((tmp_path / "case.audit.json").read_text(encoding="utf-8")).edits == tuple(audit.edits)
    assert [path.name for path in tmp_path.iterdir()] == ["case.audit.json"]


def test_the_matrix_takes_indices_to_ras_also_for_oblique_volumes() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    direction = np.array([[0, -s, c], [0, c, s], [1.0, 0, 0]])
    volume = Volume(np.zeros((2, 3, 4), np.int16), (5.0, 2.0, 0.5), direction, (1.0, 2.0, 3.0))
    k, j, i = 1, 2, 3
    lps = np.array([1.0, 2.0, 3.0]) + direction @ (np.array([k, j, i]) * [5.0, 2.0, 0.5])
    assert np.allclose((ijk_to_ras(volume) @ [i, j, k, 1])[:3], lps * [-1, -1, 1])


def test_a_failed_click_is_not_recorded() -> None:
    session, audit = recorded()
    with pytest.raises(InvalidInputError):
        session.click((99, 0, 0), LIVER)
    assert audit.edits == []
