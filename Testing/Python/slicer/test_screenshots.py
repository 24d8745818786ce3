"""The script that takes the README's pictures: panel and views in one image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import sys
sys.path.insert(0, {testing!r})
import numpy as np
import screenshots

def walk(user, camera):
    import slicer.util
    array = np.zeros((20, 20, 20), np.int16)
    array[5:15, 5:15, 5:15] = 300
    camera.show(slicer.util.addVolumeFromArray(array, name="block"))
    camera.take(user.parent, "picture")

screenshots.main([{folder!r}], walk)
"""


@pytest.mark.rendering
def test_a_picture_shows_the_panel_on_the_left_and_the_views_on_the_right(tmp_path):
    script = SCRIPT.format(testing=str(ROOT / "Testing"), folder=str(tmp_path))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    from matplotlib.image import imread

    picture = imread(tmp_path / "picture.png")[:, :, :3]
    height, width, _ = picture.shape
    assert (width, height) == (1348, 1060)
    panel, axial = picture[:, :400], picture[:500, 420:860]
    # The panel is mostly light grey; the block is white in the middle of a black slice view.
    assert np.median(panel) > 0.8
    assert axial[250, 220].mean() > 0.9
    assert axial[5, 5].mean() < 0.1
