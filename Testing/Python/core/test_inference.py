"""Whole volumes through the real segmenter: the labelmap lies exactly on the input's grid, whatever that is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from udfa.checkpoint import load_checkpoint
from udfa.config import PostprocessingConfig
from udfa.errors import InvalidInputError
from udfa.inference import Progress, Segmenter, SegmentOptions, scaled_entropy
from udfa.networks.udfa import UDFA

BATCH_TOLERANCE = 1e-5
"""Largest change of a float32 probability with the batch size; sums are only taken in another order."""


def intensity_rule(array: np.ndarray) -> np.ndarray:
    """What the fake network should find: liver (1) above 50 HU, spleen (2) above 150 HU."""
    return (array > 50).astype(np.uint8) + (array > 150).astype(np.uint8)


def test_all_48_orders_of_an_array_get_the_intensity_rule_voxel_for_voxel(kit: Any) -> None:
    segmenter = kit.threshold_segmenter()
    volume = kit.volume(kit.random_hu((5, 20, 33)), (3.0, 0.5, 1.25), origin_mm=(1.0, 2.0, 3.0))
    for _, _, other in kit.rearrangements(volume):
        labelmap = segmenter.segment(other).labelmap
        assert labelmap.dtype == np.uint8
        assert labelmap.flags.c_contiguous
        np.testing.assert_array_equal(labelmap, intensity_rule(other.array))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slice_axis", ["axial", "acquisition"])
def test_oblique_volumes_get_the_intensity_rule_voxel_for_voxel(kit: Any, seed: int, slice_axis: str) -> None:
    shape = tuple(np.random.default_rng(seed).permutation([4, 17, 40]))
    volume = kit.volume(kit.random_hu(shape, seed), (2.5, 0.7, 0.9), kit.rotation(seed), (-100.0, 50.0, 1000.0))
    result = kit.threshold_segmenter(slice_axis=slice_axis).segment(volume)
    np.testing.assert_array_equal(result.labelmap, intensity_rule(volume.array))


@pytest.mark.parametrize("tile_overlap", [0.0, 0.5, 0.75])
def test_slices_larger_than_a_tile_get_the_intensity_rule_too(kit: Any, tile_overlap: float) -> None:
    segmenter = kit.threshold_segmenter(tile_size=32, tile_overlap=tile_overlap)
    volume = kit.volume(kit.random_hu((2, 70, 45)))
    np.testing.assert_array_equal(segmenter.segment(volume).labelmap, intensity_rule(volume.array))
    assert {shape[2:] for shape in segmenter.network.shapes} == {(32, 32)}


@pytest.mark.parametrize("shape", [(1, 20, 20), (20, 1, 20), (20, 20, 1), (1, 1, 50), (2, 1, 1)])
def test_volumes_of_a_single_slice_row_or_column_are_segmented(kit: Any, shape: tuple[int, int, int]) -> None:
    volume = kit.volume(kit.random_hu(shape), (5.0, 1.0, 1.0))
    result = kit.threshold_segmenter().segment(volume)
    np.testing.assert_array_equal(result.labelmap, intensity_rule(volume.array))


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", ">i2"])
def test_the_type_of_the_voxels_does_not_matter(kit: Any, dtype: str) -> None:
    array = kit.random_hu((3, 20, 20)).astype(dtype)
    np.testing.assert_array_equal(kit.threshold_segmenter().segment(kit.volume(array)).labelmap, intensity_rule(array))


def test_the_input_is_left_as_it_was(kit: Any) -> None:
    array = kit.random_hu((3, 20, 20))
    before = array.copy()
    array.flags.writeable = False
    kit.threshold_segmenter().segment(kit.volume(array))
    np.testing.assert_array_equal(array, before)


def test_a_flipped_volume_gives_the_flipped_labelmap_of_a_real_network(kit: Any, awake_network: UDFA) -> None:
    segmenter = Segmenter(awake_network, kit.config(), kit.plan())
    volume = kit.volume(kit.random_hu((3, 40, 33)), (4.0, 1.0, 1.0))
    expected = segmenter.segment(volume).labelmap
    assert len(np.unique(expected)) > 1
    for permutation, flips, other in list(kit.rearrangements(volume))[5::14]:
        labelmap = segmenter.segment(other).labelmap
        np.testing.assert_array_equal(labelmap, kit.rearranged(expected, permutation, flips))


def disc_volume(kit: Any, spacing_mm: tuple[float, float, float]) -> Any:
    """A ball of 200 HU, radius 12 mm, in 0 HU, off the centre of 60 mm x 60 mm x 60 mm."""
    shape = [round(60 / s) for s in spacing_mm]
    place = [(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing_mm)]
    distance = np.sqrt(sum((p - c) ** 2 for p, c in zip(np.meshgrid(*place, indexing="ij"), (31.0, 22.0, 37.0))))
    return kit.volume(np.where(distance < 12, 200, -100).astype(np.int16), spacing_mm)


@pytest.mark.parametrize("spacing_mm", [(3.0, 0.75, 0.75), (3.0, 0.6, 1.5), (3.0, 4.0, 4.0)])
def test_resampling_in_plane_keeps_places(kit: Any, spacing_mm: tuple[float, float, float]) -> None:
    volume = disc_volume(kit, spacing_mm)
    segmenter = kit.threshold_segmenter(thresholds=(50.5, 1e6), in_plane_spacing_mm=2.0, tile_size=32)
    found = segmenter.segment(volume).labelmap == 1
    truth = volume.array == 200
    assert segmenter.network.shapes[0][2:] == (32, 32)
    offset = np.argwhere(found).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    assert np.abs(offset).max() < 0.5
    assert np.count_nonzero(found & truth) * 2 / (np.count_nonzero(found) + np.count_nonzero(truth)) > 0.9


def test_air_around_the_body_is_not_sent_through_the_network(kit: Any) -> None:
    array = np.full((3, 100, 120), -1000, dtype=np.int16)
    array[:, 30:50, 40:90] = kit.random_hu((3, 20, 50)).clip(-50)
    segmenter = kit.threshold_segmenter(crop_to_body=True)
    labelmap = segmenter.segment(kit.volume(array)).labelmap
    np.testing.assert_array_equal(labelmap, intensity_rule(array))
    # 20 x 50 pixels and a margin of 4 fit into a tile of 64; the whole slice would take several.
    assert segmenter.network.shapes == [(3, 3, 64, 64)]


def test_blended_tiles_of_a_constant_network_are_constant(kit: Any) -> None:
    segmenter = Segmenter(kit.ConstantNetwork((0.0, 1.0, 2.0)), kit.config(tile_size=32), kit.plan())
    probabilities = segmenter.tiled_probabilities(torch.zeros(2, 3, 77, 50))
    expected = torch.tensor([0.0, 1.0, 2.0]).softmax(dim=0)[None, :, None, None].expand(2, 3, 77, 50)
    torch.testing.assert_close(probabilities, expected, atol=1e-6, rtol=0)


class BlurNetwork(nn.Module):
    """Shift-invariant: logits from the mean of 3 x 3 pixels; only pixels at a tile's border see its padding."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.avg_pool2d(image, 3, stride=1, padding=1)
        return mean * 3


def test_overlapping_tiles_of_a_shift_invariant_network_agree_with_one_large_tile(kit: Any) -> None:
    image = torch.randn(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    large = Segmenter(BlurNetwork(), kit.config(tile_size=96), kit.plan()).tiled_probabilities(image)
    small = Segmenter(BlurNetwork(), kit.config(tile_size=32, tile_overlap=0.5), kit.plan()).tiled_probabilities(image)
    # Tiles start at 0, 16, 32, 48: their outermost pixels are k * 16 and k * 16 + 31.
    inner = [i for i in range(1, 79) if i % 16 not in (0, 15)]
    torch.testing.assert_close(small[..., inner, :][..., inner], large[..., inner, :][..., inner], atol=1e-6, rtol=0)
    # At the seams the Gaussian leaves little of the tile that sees its own border.
    assert (small - large)[..., 1:79, 1:79].abs().max() < 0.01


def test_probabilities_sum_to_1_wherever_tiles_overlap(kit: Any, awake_network: UDFA) -> None:
    segmenter = Segmenter(awake_network, kit.config(tile_size=32), kit.plan())
    with torch.inference_mode():
        probabilities = segmenter.tiled_probabilities(torch.randn(1, 3, 50, 40))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(1, 50, 40), atol=1e-5, rtol=0)


def test_the_batch_size_changes_nothing_for_a_network_without_rounding(kit: Any) -> None:
    volume = kit.volume(kit.random_hu((7, 20, 20)))
    for batch_size, expected in [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (50, [7])]:
        segmenter = kit.threshold_segmenter(batch_size=batch_size)
        np.testing.assert_array_equal(segmenter.segment(volume).labelmap, intensity_rule(volume.array))
        assert [shape[0] for shape in segmenter.network.shapes] == expected


def test_the_batch_size_changes_probabilities_of_a_real_network_by_rounding_only(kit: Any, awake_network: UDFA) -> None:
    volume = kit.volume(kit.random_hu((5, 40, 40)))
    results = [Segmenter(awake_network, kit.config(), kit.plan(size)).segment(volume) for size in (1, 2, 5)]
    for other in results[1:]:
        assert np.mean(results[0].labelmap != other.labelmap) <= 1e-3
    image = torch.randn(5, 3, 64, 64)
    segmenter = Segmenter(awake_network, kit.config(), kit.plan())
    with torch.inference_mode():
        together = segmenter.tiled_probabilities(image)
        alone = torch.cat([segmenter.tiled_probabilities(image[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=BATCH_TOLERANCE, rtol=0)


def test_a_network_can_still_be_trained_after_it_has_segmented(kit: Any) -> None:
    torch.manual_seed(0)
    network = UDFA(kit.config().network)
    Segmenter(network, kit.config(), kit.plan()).segment(kit.volume(kit.random_hu((2, 32, 32))))
    network(torch.randn(1, 3, 32, 32)).square().mean().backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1).step()
    assert not any(parameter.is_inference() for parameter in network.parameters())


def test_labels_that_were_not_asked_for_become_background(kit: Any) -> None:
    volume = kit.volume(kit.random_hu((3, 20, 20)))
    segmenter = kit.threshold_segmenter()
    spleen = segmenter.segment(volume, SegmentOptions(labels=("spleen",))).labelmap
    np.testing.assert_array_equal(spleen, np.where(volume.array > 150, 2, 0))
    both = segmenter.segment(volume, SegmentOptions(labels=("spleen", "liver"))).labelmap
    np.testing.assert_array_equal(both, intensity_rule(volume.array))


@pytest.mark.parametrize(("labels", "named"), [(("tail",), "'tail'"), ((), "none given"), (("liver", "x"), "'x'")])
def test_labels_that_the_model_lacks_are_refused_before_anything_runs(
    kit: Any, labels: tuple[str, ...], named: str
) -> None:
    segmenter = kit.threshold_segmenter()
    with pytest.raises(InvalidInputError, match=f"no label .*{named}.*It has: liver, spleen"):
        segmenter.segment(kit.volume(kit.random_hu((3, 20, 20))), SegmentOptions(labels=labels))
    assert segmenter.network.shapes == []


def test_uncertainty_is_0_for_a_sure_and_255_for_an_undecided_network(kit: Any) -> None:
    volume = kit.volume(kit.random_hu((2, 20, 20)))
    for logits, expected in [((0.0, 1e4, 0.0), 0), ((1.0, 1.0, 1.0), 255)]:
        segmenter = Segmenter(kit.ConstantNetwork(logits), kit.config(), kit.plan())
        uncertainty = segmenter.segment(volume, SegmentOptions(uncertainty=True)).uncertainty
        assert uncertainty is not None
        assert uncertainty.dtype == np.uint8
        np.testing.assert_array_equal(uncertainty, np.full((2, 20, 20), expected))


def test_uncertainty_between_two_of_four_classes_is_half_of_the_scale() -> None:
    probabilities = torch.tensor([0.5, 0.5, 0.0, 0.0])[:, None, None]
    assert scaled_entropy(probabilities).item() == round(255 / 2)


def test_uncertainty_lies_on_the_inputs_grid_too(kit: Any) -> None:
    class UndecidedWhereBright(nn.Module):
        """All classes equally likely where the pixel is above the window's centre, else surely background."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            sure = 1e4 * (image[:, 1:2] < 0).float()
            return torch.cat([sure, torch.zeros_like(sure), torch.zeros_like(sure)], dim=1)

    config = kit.config(mean=0.5)
    volume = kit.volume(kit.random_hu((4, 17, 30)), (3.0, 1.0, 1.0), kit.rotation(7))
    result = Segmenter(UndecidedWhereBright(), config, kit.plan()).segment(volume, SegmentOptions(uncertainty=True))
    np.testing.assert_array_equal(result.uncertainty, np.where(volume.array >= 75, 255, 0))


def test_uncertainty_costs_nothing_when_it_is_not_asked_for(kit: Any) -> None:
    assert kit.threshold_segmenter().segment(kit.volume(kit.random_hu((2, 20, 20)))).uncertainty is None


def islands_config(kit: Any) -> Any:
    return replace(kit.config(), postprocessing=PostprocessingConfig(("liver",)))


def test_small_islands_are_removed_of_the_labels_that_the_checkpoint_names(kit: Any) -> None:
    array = np.zeros((3, 12, 12), dtype=np.int16)
    array[:, 1:5, 1:5], array[1, 9, 9] = 100, 100
    array[:, 1:3, 7:9], array[1, 6, 10] = 200, 200
    array[0, 11, 0] = -110
    config = islands_config(kit)
    segmenter = Segmenter(kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5)), config, kit.plan())
    cleaned = segmenter.segment(kit.volume(array)).labelmap
    expected = intensity_rule(array)
    np.testing.assert_array_equal(
        segmenter.segment(kit.volume(array), SegmentOptions(remove_islands=False)).labelmap, expected
    )
    expected[1, 9, 9] = 0
    np.testing.assert_array_equal(cleaned, expected)


@pytest.mark.parametrize(("share", "remaining"), [(0.3, 4), (0.2, 5), (0.0, 5)])
def test_small_parts_are_removed_by_the_share_that_the_checkpoint_gives(kit: Any, share: float, remaining: int) -> None:
    array = np.zeros((1, 12, 12), dtype=np.int16)
    array[0, 1:3, 1:3], array[0, 9, 9] = 100, 100
    rules = PostprocessingConfig(small_part_labels=("liver",), small_part_share=share)
    config = replace(kit.config(), postprocessing=rules)
    segmenter = Segmenter(kit.ThresholdNetwork(config.preprocessing, (50.5, 150.5)), config, kit.plan())
    assert np.count_nonzero(segmenter.segment(kit.volume(array)).labelmap == 1) == remaining


def test_what_looks_wrong_with_the_input_is_a_warning_of_the_result(kit: Any) -> None:
    result = kit.threshold_segmenter().segment(kit.volume(kit.random_hu((2, 20, 20)) + 200))
    (warning,) = result.warnings
    assert "Hounsfield" in warning


def test_a_checkpoint_becomes_a_segmenter(kit: Any, mini_checkpoint: Any) -> None:
    segmenter = Segmenter.from_checkpoint(load_checkpoint(mini_checkpoint.path), kit.plan(2))
    volume = kit.volume(kit.random_hu((2, 32, 32)))
    result = segmenter.segment(volume)
    assert result.labelmap.shape == (2, 32, 32)
    assert result.plan == kit.plan(2)
    assert result.seconds > 0


def test_progress_within_a_series_is_that_of_all_volumes():
    # 2 of 5 volumes of 10 slices are done, and 5 slices of the third: half of 50, in 20 s.
    assert Progress(5, 10, 3.0, "note").of_series(2, 5, 20.0) == Progress(25, 50, 20.0, "note")
    assert Progress(0, 10, None).of_series(0, 5, 0.1) == Progress(0, 50, None)
