"""Random clicks on a real CT keep every promise; Testing/Benchmarks/random_clicks.py makes a thousand of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import udfa
from Benchmarks.random_clicks import REFERENCE, SAMPLE, Findings, click_at_random
from fakes.clicks import always, click_config, session_of, wake_prompt_encoder
from udfa.config import ModelConfig, NetworkConfig
from udfa.devices import ExecutionPlan
from udfa.inference import Segmenter
from udfa.interaction import CorrectionSession, SessionOptions
from udfa.labels import KNOWN_LABELS
from udfa.volume_io import read_volume

INSTALLED_SAMPLE = Path(udfa.__file__).resolve().parents[1] / "Resources" / "SampleData" / "abdomen_ct.nii.gz"


def organ_segmenter() -> Segmenter:
    """A `mini` network of random weights with the labels of the sample's reference."""
    from udfa.networks.udfa import UDFA

    labels = tuple(KNOWN_LABELS)[:13]
    network = NetworkConfig(num_classes=14, prompt_channels=(16, 24, 32, 48))
    config = ModelConfig(task="Test (CT)", labels=labels, network=network)
    torch.manual_seed(0)
    model = UDFA(network)
    wake_prompt_encoder(model)
    return Segmenter(model.eval().requires_grad_(False), config, ExecutionPlan("cpu", torch.float32, 1))


def test_sixty_random_edits_of_a_real_ct_break_no_promise() -> None:
    image = SAMPLE if SAMPLE.is_file() else INSTALLED_SAMPLE
    volume, labels = read_volume(image), read_volume(REFERENCE).array.astype(np.uint8)
    # A part of the volume, so that sixty edits take seconds.
    part = (slice(20, 60), slice(None), slice(None))
    options = SessionOptions(carry_slices=2, undo_depth=60)
    volume = type(volume)(volume.array[part], volume.spacing_mm, volume.direction, volume.origin_mm)
    session = CorrectionSession(organ_segmenter(), volume, labels[part], options)
    findings = click_at_random(session, 60)
    assert (findings.outside_box, findings.in_locked, findings.not_honoured, findings.foreign) == (0, 0, 0, 0)
    assert findings.undo_exact
    assert findings.redo_exact
    assert sum(changed > 0 for changed in findings.changed) > 20


@pytest.mark.parametrize("name", ["outside_box", "in_locked", "not_honoured", "foreign"])
def test_a_broken_promise_is_found(name: str) -> None:
    findings = Findings(undo_exact=True, redo_exact=True)
    assert not findings.broken()
    setattr(findings, name, 1)
    assert findings.broken()


def test_the_check_itself_notices_a_session_that_misbehaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that also writes elsewhere, ignores locks and forgets to undo."""
    assert click_config().labels
    session = session_of(np.zeros((4, 24, 24)), np.zeros((4, 24, 24)), always(1), SessionOptions(undo_depth=40))
    honest = session.scribble

    def careless(path, value, positive=True):  # type: ignore[no-untyped-def]
        edit = honest(path, value, positive)
        session.labelmap[3, 23, 23] = 1 + session.labelmap[3, 23, 23] % 3
        return edit

    monkeypatch.setattr(session, "scribble", careless)
    findings = click_at_random(session, 40)
    assert findings.outside_box > 0
    assert findings.in_locked > 0
    assert findings.foreign > 0
    assert not findings.undo_exact


def test_random_edits_with_the_bundled_checkpoint_break_no_promise() -> None:
    from udfa.checkpoint import load_checkpoint
    from udfa.models import resolve_model

    image = SAMPLE if SAMPLE.is_file() else INSTALLED_SAMPLE
    volume, labels = read_volume(image), read_volume(REFERENCE).array.astype(np.uint8)
    part = slice(50, 74)
    volume = type(volume)(volume.array[part], volume.spacing_mm, volume.direction, volume.origin_mm)
    plan = ExecutionPlan("cpu", torch.float32, 1)
    segmenter = Segmenter.from_checkpoint(load_checkpoint(resolve_model(None)), plan)
    session = CorrectionSession(segmenter, volume, labels[part], SessionOptions(carry_slices=1, undo_depth=40))
    findings = click_at_random(session, 40, seed=1)
    assert not findings.broken(), findings
    assert sum(changed > 0 for changed in findings.changed) > 15
