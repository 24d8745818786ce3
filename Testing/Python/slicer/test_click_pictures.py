"""The script that takes the pictures before and after a click: which mistake it shows."""

from __future__ import annotations

import numpy as np

from fakes.clicks import by_intensity, session_of

SPLEEN, STOMACH = 2, 3


def test_the_mistake_that_one_click_corrects_most_is_shown_and_nothing_changes_yet():
    from click_pictures import worst_mistake

    hu = np.zeros((6, 40, 40), np.int16)
    hu[1:5, 4:16, 4:16], hu[1:5, 20:36, 20:36] = 60, 120
    reference = np.select([hu == 60, hu == 120], [SPLEEN, STOMACH]).astype(np.uint8)
    labelmap = reference.copy()
    labelmap[:, 10:16][labelmap[:, 10:16] == SPLEEN] = 0
    labelmap[:, 20:33][labelmap[:, 20:33] == STOMACH] = 0
    session = session_of(hu, labelmap, by_intensity((40, 90, SPLEEN), (100, 150, STOMACH)))
    found = worst_mistake(session, reference, (1, SPLEEN, STOMACH))
    assert found is not None
    assert (found.value, found.positive) == (STOMACH, True)
    assert reference[found.position] == STOMACH
    assert labelmap[found.position] == 0
    assert 0 < found.corrected <= 4 * 13 * 16
    assert (session.labelmap == labelmap).all()
    assert session.clicks == []
    assert worst_mistake(session, labelmap, (SPLEEN, STOMACH)) is None
