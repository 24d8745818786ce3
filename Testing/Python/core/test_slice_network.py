"""What the network is shown of a slice, and how its answer comes back to the volume's pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fakes.clicks import LPS_AXES, FakeSegmenter, always, by_intensity, mini_segmenter, stubborn
from udfa.edit_rules import Region
from udfa.errors import InvalidInputError
from udfa.geometry import Volume
from udfa.networks.udfa import EncoderFeatures
from udfa.preprocessing import network_slices, resize_planes
from udfa.prompts import PlaneClick
from udfa.resampling import resampling_weights
from udfa.slice_network import Question, SliceNetwork


def network_of(segmenter: FakeSegmenter, hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> SliceNetwork:
    return SliceNetwork(segmenter, Volume(hu, spacing_mm, LPS_AXES), 10**9)  # type: ignore[arg-type]


def ask(network: SliceNetwork, *question: object) -> np.ndarray:
    (answer,) = network.ask([Question(*question)])  # type: ignore[arg-type]
    return answer


def region(*edges: tuple[int, int]) -> Region:
    rows, columns = (slice(a, b) for a, b in edges)
    return rows, columns


@pytest.mark.parametrize(("source", "target"), [(7, 20), (20, 7), (13, 40), (5, 6)])
def test_the_weights_of_an_axis_resample_as_inference_does(source: int, target: int) -> None:
    plane = torch.rand(2, source, 4, generator=torch.Generator().manual_seed(0))
    weights = resampling_weights(source, target)
    assert weights is not None
    assert torch.allclose(torch.matmul(weights, plane), resize_planes(plane, (target, 4)), atol=1e-6)
    assert resampling_weights(9, 9) is None


def test_an_answer_for_a_part_is_that_part_of_the_answer_for_all() -> None:
    random = np.random.default_rng(0)
    hu = random.integers(-100, 200, (3, 50, 60)).astype(np.int16)
    segmenter = mini_segmenter(in_plane_spacing_mm=2.0)
    network = SliceNetwork(segmenter, Volume(hu, (2.0, 0.9, 1.1), LPS_AXES), 10**9)
    labels = random.integers(0, 4, (50, 60)).astype(np.uint8)
    clicks = [PlaneClick(20, 30, 1, True)]
    whole = ask(network, 1, labels, clicks, region((0, 50), (0, 60)))
    part = ask(network, 1, labels, clicks, region((10, 33), (41, 60)))
    assert whole.shape == (4, 50, 60)
    assert np.allclose(whole.sum(axis=0), 1, atol=1e-5)
    assert np.allclose(part, whole[:, 10:33, 41:60], atol=1e-6)


def test_without_prompts_the_path_of_clicks_equals_the_automatic_one_bit_for_bit() -> None:
    """Encoder and decoder run apart give what the whole network gives, with a prompt encoder full of weights."""
    segmenter = mini_segmenter(in_plane_spacing_mm=2.0)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        automatic = segmenter.tiled_probabilities(image)
        assert torch.equal(segmenter.decode(segmenter.encode(image)), automatic)


def test_the_encoder_runs_once_per_slice() -> None:
    segmenter = FakeSegmenter(stubborn)
    network = network_of(segmenter, np.zeros((3, 20, 20), np.int16), (1.0, 1.0, 1.0))
    labels = np.zeros((20, 20), np.uint8)
    for z in (0, 1, 0, 0, 1):
        ask(network, z, labels, [PlaneClick(5, 5, 1, True)], region((0, 20), (0, 20)))
    assert segmenter.encoded == network.encoded == 2
    assert len(segmenter.prompts) == 5


def test_preparing_a_slice_spares_the_first_click_the_encoder() -> None:
    segmenter = FakeSegmenter(stubborn)
    network = network_of(segmenter, np.zeros((3, 20, 20), np.int16), (1.0, 1.0, 1.0))
    network.prepare(2, (4, 4))
    ask(network, 2, np.zeros((20, 20), np.uint8), [], region((0, 9), (0, 9)))
    assert segmenter.encoded == 1


def test_the_prompt_shows_clicks_and_labels_on_the_networks_grid() -> None:
    """Pixels of 1 mm, a network at 2 mm: row 21, column 11 of the volume is row 10.25, column 5.25 there."""
    segmenter = FakeSegmenter(stubborn, in_plane_spacing_mm=2.0, tile_size=32)
    network = network_of(segmenter, np.zeros((1, 40, 40), np.int16), (1.0, 1.0, 1.0))
    labels = np.zeros((40, 40), np.uint8)
    labels[:20] = 2
    ask(network, 0, labels, [PlaneClick(21, 11, 3, True)], region((0, 40), (0, 40)))
    (prompt,) = segmenter.prompts
    rows, columns = torch.nonzero(prompt[0, 3], as_tuple=True)
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (8, 12, 3, 7)
    assert prompt[0, 4 + 2, :10, :20].all()
    assert prompt[0, 4 + 0, 10:20, :20].all()
    assert not prompt[0, 8:].any()
    assert prompt.shape == (1, 12, 32, 32)


def test_the_prompt_shows_the_labels_of_a_corrected_neighbour() -> None:
    segmenter = FakeSegmenter(stubborn, in_plane_spacing_mm=2.0)
    network = network_of(segmenter, np.zeros((1, 40, 40), np.int16), (1.0, 1.0, 1.0))
    neighbour = np.zeros((40, 40), np.uint8)
    neighbour[20:] = 3
    ask(network, 0, np.zeros((40, 40), np.uint8), [], region((0, 40), (0, 40)), neighbour)
    (prompt,) = segmenter.prompts
    assert prompt[0, 8 + 0, :10, :20].all()
    assert prompt[0, 8 + 3, 10:20, :20].all()
    assert prompt[0, 8:].sum() == 20 * 20


def test_the_air_that_preprocessing_crops_is_background() -> None:
    hu = np.full((2, 60, 60), -1000, np.int16)
    hu[:, 20:40, 20:40] = 50
    network = network_of(FakeSegmenter(always(2), crop_to_body=True), hu, (1.0, 1.0, 1.0))
    answer = ask(network, 0, np.zeros((60, 60), np.uint8), [], region((0, 60), (0, 60)))
    winner = answer.argmax(axis=0)
    assert (winner[16:44, 16:44] == 2).all()
    assert winner.sum() == 2 * 28 * 28
    assert (ask(network, 0, np.zeros((60, 60), np.uint8), [], region((0, 9), (0, 9)))[0] == 1).all()


def test_of_a_large_slice_only_the_window_around_the_click_is_asked() -> None:
    segmenter = FakeSegmenter(always(2), tile_size=64)
    network = network_of(segmenter, np.zeros((1, 200, 200), np.int16), (1.0, 1.0, 1.0))
    labels = np.full((200, 200), 1, np.uint8)
    answer = ask(network, 0, labels, [PlaneClick(150, 150, 2, True)], region((130, 171), (130, 171)))
    assert segmenter.prompts[0].shape[-1] == 64
    assert answer[2, 20, 20] > 0.9
    far = ask(network, 0, labels, [PlaneClick(150, 150, 2, True)], region((100, 200), (0, 200)))
    winner = far.argmax(axis=0)
    assert set(np.unique(winner)) == {1, 2}
    assert (winner[:, :50] == 1).all()


def test_nearby_clicks_on_a_large_slice_share_their_features() -> None:
    segmenter = FakeSegmenter(stubborn, tile_size=64)
    network = network_of(segmenter, np.zeros((1, 200, 200), np.int16), (1.0, 1.0, 1.0))
    labels = np.zeros((200, 200), np.uint8)
    for row in (94, 96, 98, 100):
        ask(network, 0, labels, [], region((row, row + 1), (96, 97)))
    assert segmenter.encoded == 1


def test_intensities_are_normalised_and_smoothed_with_repeated_edges() -> None:
    hu = np.full((1, 5, 5), 75, np.int16)
    hu[0, 0, 0] = 75 + 90
    network = network_of(FakeSegmenter(stubborn), hu, (1.0, 1.0, 1.0))
    whole = network.intensity(0, region((0, 5), (0, 5)))
    flat = (75 + 125) / 400
    unit = 0.226 * 400
    assert whole[4, 4] == pytest.approx((flat - 0.449) / 0.226, abs=1e-5)
    assert (whole[0, 0] - whole[4, 4]) * unit == pytest.approx(90 * 4 / 9, abs=1e-3)
    assert (whole[1, 1] - whole[4, 4]) * unit == pytest.approx(90 / 9, abs=1e-3)
    for edges in (((0, 2), (0, 3)), ((1, 4), (2, 5)), ((3, 5), (0, 1))):
        part = network.intensity(0, region(*edges))
        assert np.array_equal(part, whole[region(*edges)])


def test_the_finest_detail_is_the_coarser_of_both_pixel_sizes() -> None:
    coarse = network_of(
        FakeSegmenter(stubborn, in_plane_spacing_mm=2.0), np.zeros((1, 40, 40), np.int16), (1, 0.5, 0.5)
    )
    assert coarse.detail_mm == pytest.approx(2.0)
    fine = network_of(FakeSegmenter(stubborn, in_plane_spacing_mm=2.0), np.zeros((1, 40, 40), np.int16), (1, 3.0, 3.0))
    assert fine.detail_mm == pytest.approx(3.0)
    native = network_of(FakeSegmenter(stubborn), np.zeros((1, 40, 40), np.int16), (1, 0.7, 0.7))
    assert native.detail_mm == pytest.approx(0.7)


def test_when_memory_runs_out_the_answer_comes_from_a_lighter_plan() -> None:
    segmenter = FakeSegmenter(by_intensity((50, 150, 1)))
    segmenter.plan = type(segmenter.plan)("cpu", torch.float32, 4)
    segmenter.errors = [RuntimeError("CUDA out of memory"), MemoryError()]
    network = network_of(segmenter, np.full((1, 8, 8), 100, np.int16), (1.0, 1.0, 1.0))
    answer = ask(network, 0, np.zeros((8, 8), np.uint8), [], region((0, 8), (0, 8)))
    assert (answer.argmax(axis=0) == 1).all()
    assert segmenter.plan.batch_size == 1
    segmenter.errors = [MemoryError()]
    with pytest.raises(MemoryError):
        ask(network, 0, np.zeros((8, 8), np.uint8), [], region((0, 8), (0, 8)))


def test_features_from_another_precision_are_not_used_again() -> None:
    segmenter = FakeSegmenter(stubborn)
    network = network_of(segmenter, np.zeros((1, 8, 8), np.int16), (1.0, 1.0, 1.0))
    network.prepare(0, (1, 1))
    segmenter.plan = type(segmenter.plan)("cpu", torch.bfloat16, 1)
    network.prepare(0, (1, 1))
    assert segmenter.encoded == 2


def test_an_error_that_is_not_about_memory_comes_through() -> None:
    segmenter = mini_segmenter()
    network = SliceNetwork(segmenter, Volume(np.zeros((1, 32, 32), np.int16), (1.0, 1.0, 1.0), LPS_AXES), 10**9)

    def fail(features: object, prompt: object = None) -> torch.Tensor:
        raise InvalidInputError("no")

    segmenter.decode = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(InvalidInputError, match="no"):
        ask(network, 0, np.zeros((32, 32), np.uint8), [], region((0, 8), (0, 8)))


def test_two_slices_asked_together_get_the_answers_they_get_alone() -> None:
    random = np.random.default_rng(1)
    hu = random.integers(-100, 200, (4, 90, 100)).astype(np.int16)
    labels = random.integers(0, 4, (90, 100)).astype(np.uint8)
    network = SliceNetwork(mini_segmenter(in_plane_spacing_mm=2.0), Volume(hu, (2.0, 0.9, 1.1), LPS_AXES), 10**9)
    questions = [
        Question(1, labels, [PlaneClick(20, 30, 1, True)], region((12, 33), (25, 50))),
        Question(2, labels[::-1], [], region((10, 40), (30, 48)), labels),
    ]
    together = network.ask(questions)
    for question, answer in zip(questions, together):
        (alone,) = network.ask([question])
        assert answer.shape == alone.shape
        assert np.allclose(answer, alone, atol=1e-4)
    assert not np.allclose(together[0][:, :18, :18], together[1][:, :18, :18], atol=0.1)


def test_parts_of_different_sizes_are_joined_only_where_that_is_quicker() -> None:
    segmenter = FakeSegmenter(stubborn, tile_size=512)
    network = network_of(segmenter, np.zeros((2, 400, 400), np.int16), (1.0, 1.0, 1.0))
    labels = np.zeros((400, 400), np.uint8)
    small, wide = region((100, 120), (100, 120)), region((100, 120), (80, 160))
    network.ask([Question(0, labels, (), small), Question(1, labels, (), wide)])
    assert [tuple(prompt.shape[2:]) for prompt in segmenter.prompts] == [(96, 160), (96, 160)]
    segmenter.prompts.clear()
    network.ask([Question(0, labels, (), small), Question(1, labels, (), region((0, 400), (0, 400)))])
    assert [tuple(prompt.shape[2:]) for prompt in segmenter.prompts] == [(96, 96), (416, 416)]


def test_slices_that_may_come_next_are_encoded_along_as_far_as_the_batch_has_room() -> None:
    segmenter = FakeSegmenter(stubborn)
    segmenter.plan = type(segmenter.plan)("cpu", torch.float32, 4)
    network = network_of(segmenter, np.zeros((12, 20, 20), np.int16), (1.0, 1.0, 1.0))
    labels, place = np.zeros((20, 20), np.uint8), region((0, 20), (0, 20))

    def encoded_by(*slices: tuple[int, Sequence[int]]) -> int:
        before = network.encoded
        network.ask([Question(z, labels, (), place, ahead=ahead) for z, ahead in slices])
        return network.encoded - before

    assert encoded_by((6, range(7, 12)), (4, range(3, -1, -1))) == 4
    assert encoded_by((7, ())) == encoded_by((3, ())) == 0
    assert encoded_by((8, ())) == 1
    assert encoded_by((8, range(9, 12))) == 0
    assert encoded_by((9, range(10, 12))) == 3


def test_a_cache_for_one_slice_serves_two_slices_asked_together() -> None:
    segmenter = FakeSegmenter(by_intensity((50, 150, 1)))
    segmenter.plan = type(segmenter.plan)("cpu", torch.float32, 4)
    volume = Volume(np.full((9, 20, 20), 100, np.int16), (1.0, 1.0, 1.0), LPS_AXES)
    network = SliceNetwork(segmenter, volume, 1)  # type: ignore[arg-type]
    labels, place = np.zeros((20, 20), np.uint8), region((0, 20), (0, 20))
    answers = network.ask([Question(z, labels, (), place, ahead=(z + 2, z + 4)) for z in (1, 2)])
    assert all((answer.argmax(axis=0) == 1).all() for answer in answers)
    assert len(network.cache) == 1


def test_idle_moments_encode_the_first_slices_first_until_somebody_needs_the_network() -> None:
    segmenter = FakeSegmenter(stubborn)
    segmenter.plan = type(segmenter.plan)("cpu", torch.float32, 2)
    network = network_of(segmenter, np.zeros((9, 20, 20), np.int16), (1.0, 1.0, 1.0))
    network.prepare(4, (5, 5))
    asked = iter([False, False, True])
    network.prepare_ahead([4, 5, 3, 6, 2, 7], (5, 5), lambda: next(asked))
    assert network.encoded == 1 + 4
    labels, place = np.zeros((20, 20), np.uint8), region((0, 20), (0, 20))
    network.ask([Question(z, labels, (), place) for z in (6, 2)])
    assert network.encoded == 5
    network.ask([Question(7, labels, (), place)])
    assert network.encoded == 6


def test_idle_moments_drop_nothing_from_a_full_cache() -> None:
    segmenter = FakeSegmenter(stubborn)
    volume = Volume(np.zeros((9, 20, 20), np.int16), (1.0, 1.0, 1.0), LPS_AXES)
    network = SliceNetwork(segmenter, volume, 10**9)  # type: ignore[arg-type]
    network.prepare(4, (5, 5))
    network.cache.budget_bytes = int(3.5 * network.cache.used_bytes)
    network.prepare_ahead(range(9), (5, 5), lambda: False)
    assert (len(network.cache), network.encoded) == (3, 3)
    network.prepare(4, (5, 5))
    assert network.encoded == 3


def test_a_question_with_less_context_decodes_less() -> None:
    segmenter = FakeSegmenter(stubborn, tile_size=512)
    network = network_of(segmenter, np.zeros((1, 400, 400), np.int16), (1.0, 1.0, 1.0))
    for context in (32, 16, 0):
        place = region((208, 216), (208, 216))
        network.ask([Question(0, np.zeros((400, 400), np.uint8), (), place, context=context)])
    assert [tuple(prompt.shape[2:]) for prompt in segmenter.prompts] == [(96, 96), (64, 64), (32, 32)]
    # 120 pixels around (212, 212) are 152 to 272; more context than that counts, too.
    for context, side in ((0, 160), (16, 160), (80, 192)):
        question = Question(0, np.zeros((400, 400), np.uint8), (), place, context=context, view=120)
        network.ask([question])
        assert segmenter.prompts[-1].shape[2:] == (side, side)


@pytest.mark.parametrize(("network_mm", "volume_mm", "pixels"), [(2.0, 1.0, 16), (None, 1.0, 32), (None, 0.5, 32)])
def test_carried_corrections_are_shown_with_32_mm_around_or_32_pixels_if_these_are_less(
    network_mm: float, volume_mm: float, pixels: int
) -> None:
    segmenter = FakeSegmenter(stubborn, in_plane_spacing_mm=network_mm)
    network = network_of(segmenter, np.zeros((1, 40, 40), np.int16), (1.0, volume_mm, volume_mm))
    assert network.carry_context == pixels


def counted(network: SliceNetwork, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count decoder passes: each adds the number of slices it decodes."""
    passes: list[int] = []
    decode = network.segmenter.decode

    def counting(features: EncoderFeatures, prompt: object = None) -> torch.Tensor:
        passes.append(len(features.image))
        return decode(features, prompt)  # type: ignore[arg-type]

    monkeypatch.setattr(network.segmenter, "decode", counting)
    return passes


def automatic(z: int, *edges: tuple[int, int]) -> Question:
    return Question(z, np.zeros((50, 60), np.uint8), (), region(*edges), automatic=True)


def test_an_automatic_answer_is_worked_out_once_for_the_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    hu = np.random.default_rng(0).integers(-100, 200, (3, 50, 60)).astype(np.int16)
    segmenter = mini_segmenter(in_plane_spacing_mm=2.0)
    network = SliceNetwork(segmenter, Volume(hu, (2.0, 2.0, 2.0), LPS_AXES), 10**9)
    passes = counted(network, monkeypatch)
    whole, other = network.ask([automatic(1, (0, 50), (0, 60)), automatic(2, (0, 50), (0, 60))])
    (part,) = network.ask([automatic(1, (3, 20), (40, 60))])
    assert passes == [2]
    assert np.array_equal(part, whole[:, 3:20, 40:60])
    assert not np.array_equal(whole, other)
    image = network_slices(hu, 1, 2, network._grid, network._rule, 3)
    with torch.inference_mode():
        expected = segmenter.tiled_probabilities(image)[0].numpy()
    assert np.allclose(whole, expected, atol=1e-3)


def test_automatic_answers_beyond_their_memory_are_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hu = np.random.default_rng(0).integers(-100, 200, (3, 50, 60)).astype(np.int16)
    monkeypatch.setattr("udfa.slice_network.AUTOMATIC_BYTES", 1)
    network = SliceNetwork(mini_segmenter(in_plane_spacing_mm=2.0), Volume(hu, (2.0, 2.0, 2.0), LPS_AXES), 10**9)
    passes = counted(network, monkeypatch)
    for z in (0, 0, 1, 0):
        network.ask([automatic(z, (0, 50), (0, 60))])
    assert passes == [1, 1, 1]
