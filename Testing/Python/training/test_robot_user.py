"""The robot users of the benchmark, the classical tools they are compared with, and the numbers that come out."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from Benchmarks.classical_tools import CLASSICAL_TOOLS, Brush, RegionGrowing, SeededTool
from Benchmarks.robot_report import Run, harm_of, read_runs, summary_of, where_rivals_win, write_report
from Benchmarks.robot_user import Case, Row, Settings, corrected, run, timing_of, with_hole
from Benchmarks.robots import Robot, RobotClick, next_click
from Benchmarks.whole_error import WholeError
from fakes.clicks import FakeSegmenter, by_intensity, volume_of
from udfa.geometry import Volume
from udfa.interaction import CorrectionSession, SessionOptions

GROWN = CLASSICAL_TOOLS["seeded watershed"]
EXACT = Robot("centre")
SPACING = (2.0, 1.0, 1.0)


def truth() -> np.ndarray:
    labels = np.zeros((12, 40, 40), np.uint8)
    labels[2:10, 8:28, 8:28] = 1
    return labels


def noisy(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    return (labels * 100 + np.random.default_rng(seed).normal(0, 4, labels.shape)).astype(np.int16)


def test_the_robot_clicks_the_middle_of_the_largest_error() -> None:
    reference = truth() == 1
    current = reference.copy()
    current[3:8, 10:20, 10:20] = False
    current[5, 35, 35] = True
    click = next_click(current, reference, SPACING, EXACT, np.random.default_rng(0))
    assert click is not None
    assert (click.positive, click.truthful) == (True, True)
    assert click.position[0] == 5
    assert all(13 <= p <= 16 for p in click.position[1:])


def test_a_false_positive_gets_a_negative_click_and_no_error_none() -> None:
    reference = truth() == 1
    current = reference.copy()
    current[5, 33:38, 33:38] = True
    click = next_click(current, reference, SPACING, EXACT, np.random.default_rng(0))
    assert click == RobotClick((5, 35, 35), False, True)
    assert next_click(reference, reference, SPACING, EXACT, np.random.default_rng(0)) is None


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (10.0, 1.0, 1.0)])
@pytest.mark.parametrize("axis", [0, 2])
def test_the_middle_of_an_error_does_not_depend_on_how_thick_the_slices_are(spacing, axis) -> None:
    reference = np.zeros((8, 40, 40), bool)
    current = reference.copy()
    current[3, 10:31, 12:33] = True
    current[4, 10:15, 12:17] = True
    spacing = tuple(np.roll(spacing, axis))
    turned = [np.ascontiguousarray(np.moveaxis(mask, 0, axis)) for mask in (current, reference)]
    click = next_click(*turned, spacing, EXACT, np.random.default_rng(0), slice_axis=axis)
    assert click is not None
    assert click.position == ((3, 20, 22) if axis == 0 else (20, 22, 3))


def test_jitter_stays_within_the_error_and_the_slice() -> None:
    reference = truth() == 1
    random = np.random.default_rng(0)
    robot = Robot("jittered", jitter_mm=4.0)
    clicks = [next_click(np.zeros_like(reference), reference, SPACING, robot, random) for _ in range(40)]
    places = {click.position for click in clicks if click is not None}
    assert len(places) > 10
    assert len({place[0] for place in places}) == 1
    assert all(reference[place] for place in places)


def test_a_liar_lies_as_often_as_told() -> None:
    reference = truth() == 1
    random = np.random.default_rng(0)
    clicks = [next_click(reference & False, reference, SPACING, Robot("w", 0, 0.2), random) for _ in range(300)]
    lies = [not click.truthful for click in clicks if click is not None]
    assert np.mean(lies) == pytest.approx(0.2, abs=0.06)
    assert all(click.positive == click.truthful for click in clicks if click is not None)


@pytest.mark.parametrize("name", sorted(CLASSICAL_TOOLS))
@pytest.mark.parametrize("positive", [True, False])
def test_every_classical_tool_honours_the_click(name: str, positive: bool) -> None:
    labels = truth() if not positive else np.zeros_like(truth())
    tool = CLASSICAL_TOOLS[name](noisy(truth()), SPACING, labels.copy())
    assert tool.click((5, 18, 18), 1, positive) > 0
    assert bool(tool.labelmap[5, 18, 18]) is positive


def test_the_brush_is_a_ball_of_five_millimetres() -> None:
    tool = Brush(noisy(truth()), SPACING, np.zeros_like(truth()))
    tool.click((5, 18, 18), 1, True)
    assert tool.labelmap[5, 18].sum() == 11
    assert tool.labelmap[:, 18, 18].sum() == 5
    assert tool.labelmap.sum() * 2.0 == pytest.approx(4 / 3 * np.pi * 125, rel=0.08)


@pytest.mark.parametrize(
    "kind", [RegionGrowing, *(kind for kind in CLASSICAL_TOOLS.values() if issubclass(kind, SeededTool))]
)
def test_where_the_contrast_is_good_the_classical_tools_are_good(kind: type) -> None:
    tool = kind(noisy(truth()), SPACING, np.zeros_like(truth()))
    tool.click((5, 18, 18), 1, True)
    overlap = 2 * ((tool.labelmap == 1) & (truth() == 1)).sum() / ((tool.labelmap == 1).sum() + (truth() == 1).sum())
    assert overlap > 0.85


def test_next_to_a_brighter_neighbour_region_growing_still_goes_by_the_organ_alone() -> None:
    """Its statistics are of voxels that may be added: those that have the label already are none of them."""
    image, labels = noisy(truth()), truth()
    image[:, :, 28:] += 300
    labels[:, :, 14:] = 0
    tool = RegionGrowing(image, SPACING, labels)
    tool.click((5, 18, 22), 1, True)
    found = tool.labelmap == 1
    assert (found & (truth() == 1)).sum() > 0.97 * (truth() == 1).sum()
    assert (found & (truth() == 0)).sum() < 0.05 * (truth() == 1).sum()


def test_seeded_tools_reach_farther_where_there_is_nothing_yet() -> None:
    assert GROWN(noisy(truth()), SPACING, np.zeros_like(truth())).reach_mm == 45.0
    assert GROWN(noisy(truth()), SPACING, truth()).reach_mm == 30.0


def settings_of(**changes: object) -> Settings:
    base: dict[str, object] = {
        "labels": ["liver"], "starts": ["scratch"], "robots": [EXACT], "rivals": ["brush"], "most_clicks": 3,
        "carry": 4, "seed": 0,
    }  # fmt: skip
    return Settings(**{**base, **changes})  # type: ignore[arg-type]


def case_of() -> tuple[Case, FakeSegmenter]:
    segmenter = FakeSegmenter(by_intensity((60, 140, 1)))
    return Case("one", volume_of(noisy(truth())), truth(), np.zeros_like(truth())), segmenter


def test_a_run_has_a_row_per_click_and_the_rivals_get_the_same_clicks() -> None:
    case, segmenter = case_of()
    session = CorrectionSession(segmenter, case.volume, case.automatic, SessionOptions())  # type: ignore[arg-type]
    rows = list(run(case, segmenter, settings_of(), session.network, [("liver", "scratch", EXACT)]))  # type: ignore[arg-type]
    mine = [row for row in rows if row.tool == "UDFA"]
    assert [row.click for row in mine] == list(range(len(mine)))
    assert (mine[0].dice, mine[0].changed) == (0.0, 0)
    assert mine[-1].dice >= 0.95
    assert all(row.outside_box == 0 for row in mine)
    assert all(row.right == row.changed for row in mine[1:2])
    same = [row for row in rows if row.tool == "brush" and row.clicks_of == "udfa"]
    assert [row.positive for row in same] == [row.positive for row in mine]
    own = [row for row in rows if row.tool == "brush" and row.clicks_of == "own"]
    assert len(own) == 4
    assert own[-1].dice < mine[-1].dice


def test_a_good_label_is_clicked_on_as_long_as_it_has_an_error() -> None:
    """A hole of 3 voxels, Dice above 0.99: the brush closes it with one click."""
    case, _ = case_of()
    holed = truth()
    holed[5, 18, 17:20] = 0
    where = {"case": "one", "label": "liver", "start": "auto", "robot": "centre", "tool": "brush", "clicks_of": "own"}
    rows = list(corrected(Brush(case.volume.array, SPACING, holed), case, 1, EXACT, settings_of(), where, []))
    assert rows[0].dice > 0.99
    assert [row.click for row in rows] == [0, 1]
    assert rows[1].dice == 1.0


def test_a_label_that_is_right_needs_no_click() -> None:
    case, _ = case_of()
    tool = Brush(case.volume.array, SPACING, truth())
    where = {"case": "one", "label": "liver", "start": "auto", "robot": "centre", "tool": "brush", "clicks_of": "own"}
    rows = list(corrected(tool, case, 1, EXACT, settings_of(), where, []))
    assert [row.click for row in rows] == [0]
    assert rows[0].dice == 1.0


def test_clicks_to_a_dice_are_counted_and_failures_count_as_the_cap() -> None:
    quick = Run(("liver", "auto", "centre", "UDFA", "own"), "a", np.array([0.8, 0.86, 0.91]), [])
    slow = Run(("liver", "auto", "centre", "UDFA", "own"), "b", np.array([0.5, 0.6, 0.7]), [])
    result = summary_of([quick, slow], 20)
    assert (result["noc@0.85"], result["noc@0.90"], result["noc@0.95"]) == (10.5, 11.0, 20.0)
    assert (result["failures@0.85"], result["failures@0.95"]) == (1, 2)
    assert result["dice"] == {"0": 0.65, "1": 0.73, "3": 0.805, "5": 0.805, "10": 0.805, "20": 0.805}
    assert result["share_of_gap_closed@5"] == pytest.approx((0.805 - 0.65) / 0.35, abs=1e-4)
    # Trapezoids of 0.8, 0.86, 0.91, 0.91, 0.91, 0.91 and of 0.5, 0.6, 0.7, 0.7, 0.7, 0.7.
    assert result["auc_0_5"] == pytest.approx((0.889 + 0.66) / 2, abs=1e-3)


def test_harm_counts_the_clicks_that_lower_dice() -> None:
    clicks = [
        {"truthful": "True", "changed": "10", "right": "8", "outside_box": "0"},
        {"truthful": "False", "changed": "30", "right": "2", "outside_box": "1", "foreign": "3"},
    ]
    found = harm_of([Run(("l", "a", "r", "UDFA", "own"), "c", np.array([0.5, 0.6, 0.4]), clicks)])
    assert (found["clicks"], found["harm_rate"], found["harm_rate_of_true_clicks"]) == (2, 0.5, 0.0)
    assert (found["right_share_of_changed_voxels"], found["voxels_outside_box"]) == (0.25, 1)
    assert found["voxels_of_other_labels"] == 3


def test_the_report_has_tables_numbers_and_plots(tmp_path: Path) -> None:
    case, segmenter = case_of()
    session = CorrectionSession(segmenter, case.volume, case.automatic, SessionOptions())  # type: ignore[arg-type]
    orders = [("liver", start, EXACT) for start in ("auto", "scratch")]
    with (tmp_path / "clicks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        for row in run(case, segmenter, settings_of(), session.network, orders):  # type: ignore[arg-type]
            writer.writerow(asdict(row))
    times = {"next_click": [0.1, 0.3, 0.2], "segment_again": [1.0, 1.6, 1.4], "first_click": [0.5]}
    (tmp_path / "timing.json").write_text(json.dumps(times))
    table = write_report(tmp_path, {"most_clicks": 3})
    assert "| scratch | centre | UDFA | own | all labels |" in table
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["timing"]["next_click"] == {"repeats": 3, "p50_s": 0.2, "p95_s": 0.29}
    assert summary["timing"]["next_click_faster_than_segment_again"] == 7.0
    assert "| next click faster than segment again | 7.0 x |" in table
    assert summary["latency"]["with_encoder"]["clicks"] >= 1
    # Two starts; UDFA, three bounds, and a rival with its own clicks and with those of UDFA.
    assert len(read_runs(tmp_path / "clicks.csv")) == 12
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("dice_by_tool.png", "dice_by_label.png"))


def test_the_times_of_a_click_and_of_segmenting_its_slab_again_are_of_the_same_slices() -> None:
    """A volume whose slices lie along its last axis: the slab is taken along that axis, too."""
    segmented: list[tuple[int, ...]] = []
    segmenter = FakeSegmenter(by_intensity((60, 140, 1)))
    segmenter.segment = lambda volume: segmented.append(volume.array.shape)  # type: ignore[attr-defined]
    volume, labels = volume_of(noisy(truth())), truth()
    turned = Volume(
        np.ascontiguousarray(np.moveaxis(volume.array, 0, 2)), (1.0, 1.0, 2.0), volume.direction[:, [1, 2, 0]].copy()
    )
    reference = np.ascontiguousarray(np.moveaxis(labels, 0, 2))
    case = Case("turned", turned, reference, np.zeros_like(reference), 2)
    times = timing_of(segmenter, case, carry=2, repeats=2)  # type: ignore[arg-type]
    assert segmented == 4 * [(40, 40, 5)] + 2 * [(40, 40, 1)]
    counts = {"first_click": 2, "next_click": 4, "segment_again": 2}
    assert {name: len(found) for name, found in times.items()} == {
        f"{name}{ending}{of}": count
        for name, count in counts.items()
        for ending in ("", "_repair", "_one_slice")
        for of in ("", "_cpu")
    }


def test_a_hole_is_a_ball_in_one_label() -> None:
    labelmap = np.ones((5, 40, 40), np.uint8)
    labelmap[:, :, 25:] = 2
    holed = with_hole(labelmap, 1, (2, 20, 20), (10.0, 1.0, 1.0))
    missing = (holed == 0) & (labelmap == 1)
    assert missing[2, 20].nonzero()[0].tolist() == list(range(5, 25))
    assert missing[1, 20].nonzero()[0].tolist() == list(range(9, 25))
    assert not missing[[0, 4]].any()
    assert (holed[labelmap == 2] == 2).all()


def test_the_report_says_where_a_classical_tool_wins() -> None:
    def row(tool: str, label: str, dice: float, clicks_of: str = "own") -> dict[str, object]:
        return {"start": "auto", "robot": "centre", "tool": tool, "clicks_of": clicks_of, "label": label,
                "dice": {"5": dice}}  # fmt: skip

    rows = [row("UDFA", "liver", 0.9), row("brush", "liver", 0.8), row("UDFA", "aorta", 0.7)]
    bound = row("whole error (bound)", "aorta", 1.0)
    assert where_rivals_win([*rows, bound], ["brush"]).startswith("No classical tool")
    text = where_rivals_win([*rows, bound, row("brush", "aorta", 0.75, "udfa")], ["brush"])
    assert "* aorta, auto, robot centre: brush on UDFA's clicks 0.750, UDFA 0.700" in text
    assert "liver" not in text


def test_the_bound_puts_the_clicked_error_right_and_no_other() -> None:
    reference, labels = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8), np.uint8)
    reference[0:3, 1:3, 1:3], reference[0, 6, 6], labels[3, 5, 1:4] = 1, 1, 1
    tool = WholeError(labels, reference)
    tool.click((1, 1, 1), 1, True)
    assert tool.labelmap.sum() == 3 * 2 * 2 + 3
    tool.click((3, 5, 2), 1, True)
    assert tool.labelmap[3].sum() == 3, "a wrong click changes nothing"
    tool.click((3, 5, 2), 1, False)
    tool.click((0, 6, 6), 1, True)
    assert np.array_equal(tool.labelmap, reference)


def test_a_bound_may_be_held_to_the_sign_of_the_click_and_to_its_slice() -> None:
    reference, labels = np.zeros((3, 6, 6), np.uint8), np.zeros((3, 6, 6), np.uint8)
    # Missing on all slices in columns 1 and 2; wrongly there, and connected with that, in column 3.
    reference[:, 2, 1:3] = 1
    labels[:, 2, 3] = 1
    of_sign = WholeError(labels.copy(), reference, same_sign=True)
    of_sign.click((1, 2, 1), 1, True)
    assert of_sign.labelmap[:, 2].tolist() == [[0, 1, 1, 1, 0, 0]] * 3
    on_slice = WholeError(labels.copy(), reference, slice_axis=0)
    on_slice.click((1, 2, 1), 1, True)
    assert on_slice.labelmap[:, 2].tolist() == [[0, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    whole = WholeError(labels.copy(), reference)
    whole.click((1, 2, 1), 1, True)
    assert np.array_equal(whole.labelmap, reference)
