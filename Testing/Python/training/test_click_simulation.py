"""The simulated reader: where it clicks, how it errs, and what its clicks lead to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from udfa.config import NetworkConfig
from udfa.networks.udfa import UDFA
from udfa.prompts import PlaneClick
from udfa_training import click_stage, hard_cases
from udfa_training.click_simulation import ReaderConfig, disturbed, next_click
from udfa_training.click_stage import ON_CLICK_WEIGHT, ClickObjective, _near, accepted
from udfa_training.dataset import NO_LABEL

EXACT = ReaderConfig(jitter_pixels=0.0, wrong_share=0.0, choices=1)


def with_block(value: int, rows: tuple[int, int], columns: tuple[int, int], size: int = 48) -> NDArray[np.int64]:
    labels = np.zeros((size, size), dtype=np.int64)
    labels[slice(*rows), slice(*columns)] = value
    return labels


def test_the_largest_error_is_clicked_first() -> None:
    reference = with_block(1, (2, 7), (2, 7)) + with_block(2, (20, 35), (20, 35))
    click = next_click(np.zeros_like(reference), reference, np.random.default_rng(0), EXACT)
    assert click == PlaneClick(27.0, 27.0, 2, True)


def test_of_several_large_errors_the_larger_is_clicked_more_often() -> None:
    reference = with_block(1, (2, 12), (2, 12)) + with_block(2, (20, 40), (20, 40))
    reader = ReaderConfig(jitter_pixels=0.0, wrong_share=0.0, choices=3)
    random = np.random.default_rng(0)
    values = [next_click(np.zeros_like(reference), reference, random, reader).value for _ in range(400)]  # type: ignore[union-attr]
    assert np.mean(np.asarray(values) == 2) == pytest.approx(0.8, abs=0.06)


def test_a_voxel_of_the_wrong_organ_is_an_error_of_both() -> None:
    """The click either claims it for the right organ, or denies it to the wrong one; never anything else."""
    wrong, right = with_block(1, (10, 20), (10, 20)), with_block(2, (10, 20), (10, 20))
    reader = ReaderConfig(jitter_pixels=0.0, wrong_share=0.0, choices=3)
    random = np.random.default_rng(1)
    kinds = {
        (click.value, click.positive)
        for click in (next_click(wrong, right, random, reader) for _ in range(30))
        if click is not None
    }
    assert kinds == {(2, True), (1, False)}


def test_the_click_is_deep_inside_the_error_also_at_the_edge_of_the_slice() -> None:
    reference = with_block(1, (0, 9), (0, 31))
    click = next_click(np.zeros_like(reference), reference, np.random.default_rng(0), EXACT)
    assert click is not None
    assert click.row == 4.0
    assert 4 <= click.column <= 26


def test_a_tenth_of_the_clicks_is_wrong_when_told_so() -> None:
    reference = with_block(1, (10, 30), (10, 30))
    reader = ReaderConfig(jitter_pixels=0.0, wrong_share=0.1)
    random = np.random.default_rng(2)
    signs = [next_click(np.zeros_like(reference), reference, random, reader).positive for _ in range(1000)]  # type: ignore[union-attr]
    assert np.mean(np.logical_not(signs)) == pytest.approx(0.1, abs=0.03)


def test_the_same_draws_give_the_same_click() -> None:
    reference = with_block(1, (10, 30), (10, 30))
    clicks = [next_click(np.zeros_like(reference), reference, np.random.default_rng(5)) for _ in range(2)]
    assert clicks[0] == clicks[1] is not None


def test_disturbed_labels_show_every_kind_of_mistake() -> None:
    reference = with_block(1, (15, 33), (15, 33))
    sizes, shifted = set(), 0
    for seed in range(60):
        result = disturbed(reference, np.random.default_rng(seed))
        count = int((result == 1).sum())
        sizes.add("missing" if count == 0 else "smaller" if count < 324 else "larger" if count > 324 else "same")
        shifted += count == 324 and not np.array_equal(result, reference)
    assert sizes == {"missing", "smaller", "larger", "same"}
    assert shifted > 0


def test_of_an_answer_only_the_difference_that_touches_the_click_is_accepted() -> None:
    current = np.zeros((48, 48), dtype=np.int64)
    answer = with_block(1, (5, 10), (5, 10)) + with_block(2, (30, 40), (30, 40))
    clicks = [PlaneClick(7.0, 7.0, 1, True), PlaneClick(35.0, 35.0, 2, True)]
    assert np.array_equal(accepted(current, answer, clicks), with_block(2, (30, 40), (30, 40)))
    assert np.array_equal(accepted(current, answer, clicks[:1]), with_block(1, (5, 10), (5, 10)))
    assert np.array_equal(accepted(current, answer, [PlaneClick(20.0, 20.0, 1, True)]), current)
    assert np.array_equal(accepted(current, answer, []), current)


def test_clicks_weigh_most_where_they_are_and_nothing_far_away() -> None:
    weights = _near([PlaneClick(10.0, 10.0, 1, True), PlaneClick(14.0, 10.0, 1, False)], torch.Size((40, 40)))
    assert weights[10, 10] == weights[14, 10] == ON_CLICK_WEIGHT
    assert weights[10, 20] == 1
    assert weights[39, 39] == 0
    assert set(weights.unique().tolist()) == {0.0, 1.0, ON_CLICK_WEIGHT}


@pytest.fixture(scope="module")
def objective() -> ClickObjective:
    torch.manual_seed(0)
    network = UDFA(NetworkConfig(num_classes=3, prompt_channels=(8, 8, 8, 8)))
    network.requires_grad_(False)
    assert network.prompt_encoder is not None
    network.prompt_encoder.requires_grad_(True)
    return ClickObjective(network, max_clicks=3, reader=ReaderConfig())


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    label = torch.from_numpy(np.stack([with_block(1, (5, 30), (5, 30), 64), with_block(2, (20, 60), (10, 40), 64)]))
    return image, torch.stack([label, label.roll(2, dims=1)], dim=1)


def test_the_loss_depends_on_the_seed_only(objective: ClickObjective) -> None:
    image, label = batch()
    with torch.no_grad():
        losses = [objective(image, label, seed).item() for seed in (3, 3, 4, 5)]
    assert losses[0] == losses[1]
    assert len(set(losses)) > 1
    assert all(np.isfinite(losses))


def test_the_first_step_teaches_the_zero_initialised_convolutions(objective: ClickObjective) -> None:
    """They start at zero, so at first they alone get a gradient; everything before them must wait one step."""
    image, label = batch()
    objective(image, label, 1).backward()
    assert objective.network.prompt_encoder is not None
    gradients = {n: p.grad for n, p in objective.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in gradients} == {"prompt_encoder"}
    for last in (".to_skip.", ".to_output."):
        assert any(g.abs().sum() > 0 for n, g in gradients.items() if last in n)
    for first in (".down.", ".context.", ".mix.", ".join."):
        assert all(g.abs().sum() == 0 for n, g in gradients.items() if first in n)


def test_slices_without_any_error_are_learned_from_too(objective: ClickObjective) -> None:
    image, _ = batch()
    with torch.no_grad():
        automatic = objective.network(image).argmax(dim=1)
        loss = objective(image, torch.stack([automatic, automatic], dim=1), 0)
    assert torch.isfinite(loss)


def test_a_slice_at_the_end_has_no_neighbour_to_learn_from(
    objective: ClickObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click_stage, "NEIGHBOUR_SHARE", 1.0)
    image, label = batch()
    label[1, 1] = NO_LABEL
    prompts: list[torch.Tensor] = []
    assert objective.network.prompt_encoder is not None
    hook = objective.network.prompt_encoder.register_forward_pre_hook(lambda _, inputs: prompts.append(inputs[0]))
    with torch.no_grad():
        loss = objective(image, label, 0)
    hook.remove()
    assert torch.isfinite(loss)
    for prompt in prompts:
        assert prompt[0, 6:].sum() == 64 * 64
        assert not prompt[1, 6:].any()


def test_a_carried_slice_has_a_neighbour_and_no_clicks(
    objective: ClickObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click_stage, "NEIGHBOUR_SHARE", 1.0)
    monkeypatch.setattr(click_stage, "CARRY_SHARE", 1.0)
    monkeypatch.setattr(click_stage, "FAULTY_NEIGHBOUR_SHARE", 0.0)
    monkeypatch.setattr(hard_cases, "RENAME_SHARE", 0.0)
    image, label = batch()
    prompts: list[torch.Tensor] = []
    assert objective.network.prompt_encoder is not None
    hook = objective.network.prompt_encoder.register_forward_pre_hook(lambda _, inputs: prompts.append(inputs[0]))
    with torch.no_grad():
        objective(image, label, 0)
    hook.remove()
    for prompt in prompts:
        assert not prompt[:, :3].any()
        assert torch.equal(prompt[:, 6:].argmax(dim=1), label[:, 1])
