"""In a session: a click on a thin error moves the border where the network was about equally undecided."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from fakes.clicks import LIVER, SPLEEN, FakeSegmenter, always, stubborn, volume_of, with_carry
from udfa.interaction import CorrectionSession
from udfa.networks.udfa import EncoderFeatures
from udfa.prompts import SparsePrompt


def obliging(hu: np.ndarray, maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A network that changes what is under a click's disc, of 2 pixels to each side, and nothing else."""
    classes = labels.argmax(axis=0)
    return np.asarray(np.where(maps[LIVER] > 0, LIVER, np.where(maps[LIVER] < 0, 0, classes)))


class UndecidedSegmenter(FakeSegmenter):
    """Its margin of liver is 1 for each 10 HU above 0. Asked with a click, it obliges."""

    def __init__(self) -> None:
        super().__init__(obliging)

    def decode(self, features: EncoderFeatures, prompt: Optional[SparsePrompt] = None) -> Tensor:
        if prompt is not None:
            return super().decode(features, prompt)
        settings = self.config.preprocessing
        low, high = settings.window_hu
        hu = features.image[:, 1] * settings.std * (high - low) + low + settings.mean * (high - low)
        liver = torch.sigmoid(hu / 10)
        other = torch.full_like(liver, 1e-9)
        return torch.stack([1 - liver, liver, other, other], dim=1)


def soft_organ(depth: int = 9) -> np.ndarray:
    """HU of an organ left of column 24, whose border is a ramp: 10 HU less in each column."""
    ramp = (24 - np.arange(48) - 0.5) * 10
    return np.broadcast_to(np.clip(ramp, -100, 200), (depth, 48, 48)).round().astype(np.int16)


def session_with(carry: int, hu: Optional[np.ndarray] = None, empty: bool = False) -> CorrectionSession:
    """A session that starts from the automatic result, or from nothing."""
    hu = soft_organ() if hu is None else hu
    labels = np.where((hu > 0) & (not empty), LIVER, 0).astype(np.uint8)
    return CorrectionSession(UndecidedSegmenter(), volume_of(hu), labels, with_carry(carry))  # type: ignore[arg-type]


def columns_gained(session: CorrectionSession, z: int, row: int) -> int:
    return int((session.labelmap[z, row] == LIVER).sum()) - 24


def test_a_click_just_outside_moves_the_border_beside_it_and_on_the_next_slices() -> None:
    """It needs 2.5 and shifts by 3.0: ten pixels away 2 columns are left, 2 on the next slice, 1 on that after."""
    session = session_with(carry=4)
    edit = session.click((4, 24, 26), LIVER)
    assert session.labelmap[4, 24, 26] == LIVER
    assert [columns_gained(session, 4, row) for row in (24, 34, 14)] == [5, 2, 2]
    assert [columns_gained(session, z, 24) for z in (2, 3, 4, 5, 6)] == [1, 2, 5, 2, 1]
    assert edit.slices == (2, 3, 4, 5, 6)
    assert (session.labelmap[:, :, 29:] == 0).all()


def test_with_no_carrying_the_margin_spreads_on_the_clicked_slice_only() -> None:
    session = session_with(carry=0)
    edit = session.click((4, 24, 26), LIVER)
    assert edit.slices == (4,)
    assert columns_gained(session, 4, 34) == 2


def test_a_removal_on_the_other_side_moves_it_back_and_keeps_the_first_click() -> None:
    session = session_with(carry=0)
    session.click((4, 10, 26), LIVER)
    session.click((4, 40, 22), LIVER, positive=False)
    assert session.labelmap[4, 10, 26] == LIVER
    assert session.labelmap[4, 40, 22] == 0
    assert columns_gained(session, 4, 10) > 0 > columns_gained(session, 4, 40)


def test_undo_and_redo_are_exact_and_the_next_click_means_the_same_after_them() -> None:
    session, other = session_with(carry=3), session_with(carry=3)
    start = session.labelmap.copy()
    for each in (session, other):
        each.click((4, 10, 26), LIVER)
    first = session.labelmap.copy()
    session.undo()
    assert (session.labelmap == start).all()
    session.redo()
    assert (session.labelmap == first).all()
    for each in (session, other):
        each.click((4, 14, 24), LIVER, positive=False)
    assert (session.labelmap == other.labelmap).all()


def test_locked_and_uneditable_voxels_stop_the_spread() -> None:
    session = session_with(carry=2)
    labels = session.labelmap.copy()
    labels[:, 28:, 24:30] = SPLEEN
    session.take_up(labels)
    session.lock([SPLEEN])
    editable = np.ones(labels.shape, bool)
    editable[:, :20] = False
    session.restrict(editable)
    session.click((4, 24, 26), LIVER)
    changed = session.labelmap != labels
    assert changed[4, 20:28, 24:26].any()
    assert not changed[:, :20].any()
    assert ((session.labelmap == SPLEEN) == (labels == SPLEEN)).all()


def test_from_nothing_one_click_gives_the_organ_on_all_slices_where_it_looks_the_same() -> None:
    session = session_with(carry=10, empty=True)
    session.click((4, 24, 10), LIVER)
    assert (session.labelmap == np.where(soft_organ() > 0, LIVER, 0)).mean() > 0.99


def test_the_image_ends_what_the_network_would_go_on_with() -> None:
    """All slices hold an organ at the same place, but from slice 6 on it is of another tissue."""
    hu = soft_organ()
    hu[6:] = np.where(hu[6:] > 0, 200, -100)
    hu[:6] = np.where(hu[:6] > 0, 40, -100)
    session = session_with(10, hu, empty=True)
    session.click((4, 24, 10), LIVER)
    assert (session.labelmap == LIVER).any(axis=(1, 2)).tolist() == [True] * 6 + [False] * 3


def test_a_click_for_another_label_shifts_nothing_of_this_one() -> None:
    """Had it, its shift of 4.5, of which 2.7 arrive here, would make the network agree that it all is liver."""
    session = session_with(carry=0)
    session.click((4, 24, 40), SPLEEN)
    session.click((4, 24, 26), LIVER)
    assert [columns_gained(session, 4, row) for row in (24, 34, 14)] == [5, 2, 2]


def test_a_click_that_was_painted_over_shifts_nothing_any_more() -> None:
    """Its shift of 4.0 on the slice before, of which 3.2 arrive here, would do without asking the network."""
    session = session_with(carry=0)
    start = session.labelmap.copy()
    session.click((3, 24, 27), LIVER)
    session.take_up(start)
    session.click((4, 24, 26), LIVER)
    assert [columns_gained(session, 4, row) for row in (24, 34, 14)] == [5, 2, 2]


def test_a_network_that_turns_the_slice_over_is_followed_only_where_it_was_not_sure_before() -> None:
    """Where the shift of 3.0 leaves it less than 2 against the change: up to 5 columns, ten pixels away 4.3 of them."""
    session = session_with(carry=0)
    session.segmenter.opinion = always(LIVER)  # type: ignore[attr-defined]
    session.click((4, 24, 26), LIVER)
    assert [columns_gained(session, 4, row) for row in (24, 34, 14)] == [5, 4, 4]


def test_a_voxel_said_not_to_belong_stays_out_also_where_the_network_is_sure_of_the_rest() -> None:
    """The click needs a shift of 13.8, as large as one can be; the voxel lies 6 pixels from it."""
    session = session_with(0, np.full((1, 48, 48), -200))
    session.click((0, 24, 30), LIVER, positive=False)
    session.segmenter.opinion = always(LIVER)  # type: ignore[attr-defined]
    session.click((0, 24, 24), LIVER)
    assert np.flatnonzero(session.labelmap[0, 24, 17:32] != LIVER).tolist() == [13]


def test_the_shift_of_a_click_that_stands_spares_the_next_one_the_question_and_an_undone_one_does_not() -> None:
    """It needs 3.5 and shifts by 4.0, of which 3.2 arrive on the next slice, where 2.5 are needed."""
    session = session_with(carry=0)
    for undone, questions in ((False, 1), (True, 3)):
        session.click((4, 24, 27), LIVER)
        if undone:
            session.undo()
        session.click((5, 24, 26), LIVER)
        assert len(session.segmenter.prompts) == questions  # type: ignore[attr-defined]
        session.undo()
        session.undo()


def test_of_two_undone_clicks_the_first_that_is_redone_is_the_one_that_counts_again() -> None:
    """Slice 8 is too far away: hardly a seventh of its shift would arrive on slice 5."""
    session = session_with(carry=0)
    session.click((4, 24, 27), LIVER)
    session.click((8, 24, 27), LIVER)
    session.undo()
    session.undo()
    session.redo()
    session.click((5, 24, 26), LIVER)
    assert len(session.segmenter.prompts) == 2  # type: ignore[attr-defined]


def test_against_the_network_other_slices_change_only_where_it_was_not_sure_of_itself() -> None:
    """The click shifts by 2.5, of which 2.0 arrive on the next slice: enough for 2.0, but not for 5.0 right of it."""
    hu = np.full((2, 48, 48), -20)
    hu[1, :, 24:] = -50
    session = session_with(1, hu)
    session.segmenter.opinion = stubborn  # type: ignore[attr-defined]
    session.click((0, 24, 24), LIVER)
    assert (session.labelmap[0, 24, 18:31] == LIVER).all()
    assert np.flatnonzero(session.labelmap[1, 24]).tolist() == [19, 20, 21, 22, 23]
