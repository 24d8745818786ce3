"""What a training step sees: the network's grid, balanced draws, and the same draw for the same (seed, index)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from udfa.config import PreprocessingConfig
from udfa.errors import InvalidInputError
from udfa_training.augment import Augmentation, AugmentConfig
from udfa_training.dataset import NO_LABEL, SliceDataset, SliceStack, _resize_label, load_stack, open_prepared

STILL = AugmentConfig(rotation_degrees=0.0, scale=0.0, shift_share=0.0, intensity_probability=0.0)
PREPROCESSING = PreprocessingConfig(in_plane_spacing_mm=4.0, tile_size=64)


def numbered_stack(labels: dict[int, int], depth: int = 40, side: int = 64) -> SliceStack:
    """Slice z is filled with intensity z; label L lies in slice labels[L], in a block of 4 x 4 pixels at (20, 30)."""
    images = np.broadcast_to(np.arange(depth, dtype=np.float16)[:, None, None], (depth, side, side)).copy()
    values = np.zeros((depth, side, side), dtype=np.uint8)
    for label, z in labels.items():
        values[z, 20:24, 30:34] = label
    return SliceStack(images, values)


def dataset(
    stacks: list[SliceStack], seed: int = 0, share: float = 1.0, augment: AugmentConfig = STILL
) -> SliceDataset:
    return SliceDataset(stacks, 4, 3, Augmentation(64, augment), share, seed)


def test_a_rare_label_is_drawn_as_often_as_a_frequent_one() -> None:
    """Label 1 is in 30 slices, label 2 in 9 and label 3 in one; each slice has one label, so what is seen was drawn."""
    stack = numbered_stack({})
    for label, slices in ((1, slice(0, 30)), (2, slice(30, 39)), (3, slice(39, 40))):
        stack.labels[slices, 20:40, 20:40] = label
    data = dataset([stack])
    drawn = Counter(int(data[i][1].max()) for i in range(300))
    # 100 each are expected, with a standard deviation of 8.
    assert set(drawn) == {1, 2, 3}
    assert all(70 < count < 130 for count in drawn.values())


def test_a_draw_with_full_foreground_share_always_shows_its_label() -> None:
    data = dataset([numbered_stack({1: 3, 2: 11, 3: 30})])
    shown = [set(data[i][1].unique().tolist()) for i in range(30)]
    assert all(len(values - {0}) == 1 for values in shown)


def test_a_draw_without_balance_comes_from_any_slice() -> None:
    data = dataset([numbered_stack({1: 3})], share=0.0)
    slices = {int(data[i][0][1].median()) for i in range(100)}
    # 100 draws of 40 slices leave 3 of them out on average.
    assert len(slices) > 30


def test_an_item_depends_only_on_seed_and_index() -> None:
    stack = numbered_stack({1: 3, 2: 11})
    stack.images[:] = np.random.default_rng(0).normal(size=stack.images.shape)
    first, second = (dataset([stack], seed=5, augment=AugmentConfig(flip_probability=0.5)) for _ in range(2))
    first[0], first[17]
    for index in (9, 3):
        for got, expected in zip(first[index], second[index]):
            assert torch.equal(got, expected)
    assert not torch.equal(first[3][0], first[9][0])
    other = dataset([stack], seed=6, augment=AugmentConfig(flip_probability=0.5))
    assert not torch.equal(first[3][0], other[3][0])


@pytest.mark.parametrize(("z", "channels"), [(0, [0, 0, 1]), (5, [4, 5, 6]), (39, [38, 39, 39])])
def test_the_channels_are_the_neighbouring_slices_and_repeat_at_the_ends(z: int, channels: list[int]) -> None:
    image, _ = dataset([numbered_stack({1: z})])[0]
    assert image.mean(dim=(1, 2)).tolist() == channels


def test_the_labels_of_a_neighbouring_slice_come_along_when_asked_for() -> None:
    labels = np.arange(3, dtype=np.uint8)[:, None, None].repeat(64, 1).repeat(64, 2)
    stack = SliceStack(np.zeros((3, 64, 64), np.float16), labels)
    data = SliceDataset([stack], 3, 1, Augmentation(64, STILL), 0.0, 0, neighbour_labels=True)
    seen = {tuple(int(plane.float().mean()) for plane in data[i][1]) for i in range(60)}
    assert seen == {(0, NO_LABEL), (0, 1), (1, 0), (1, 2), (2, 1), (2, NO_LABEL)}


def test_one_slice_is_repeated_when_the_model_takes_no_neighbours() -> None:
    data = SliceDataset([numbered_stack({1: 5})], 4, 1, Augmentation(64, STILL), 1.0, 0)
    assert data[0][0].mean(dim=(1, 2)).tolist() == [5, 5, 5]


def test_image_and_label_are_turned_together() -> None:
    """The block is 9 in the image too, so image and label must agree in all but the interpolated edge."""
    stack = numbered_stack({1: 5})
    stack.images[:] = 0
    stack.images[:, 16:32, 24:40] = 9
    stack.labels[5, 16:32, 24:40] = 1
    data = dataset([stack], augment=AugmentConfig(intensity_probability=0.0, flip_probability=0.5, shift_share=0.1))
    for index in range(8):
        image, label = data[index]
        agreement = ((image[1] > 4.5) == (label[0] == 1)).float().mean()
        assert agreement > 0.99
        assert (label == 1).sum() > 60


@pytest.mark.parametrize("side", [80, 100, 150])
def test_a_drawn_label_at_the_edge_of_the_slice_is_seen(side: int) -> None:
    """Crops are 64 pixels, so that one from the middle of these slices does not reach the label."""
    labels = np.zeros((1, side, side), np.uint8)
    labels[:, side // 2, 2:5] = 1
    stack = SliceStack(np.zeros_like(labels, dtype=np.float16), labels)
    config = AugmentConfig(rotation_degrees=0.0, scale=0.0, shift_share=0.3, intensity_probability=0.0)
    data = SliceDataset([stack], 2, 1, Augmentation(64, config), 1.0, 0)
    assert all((data[i][1] == 1).any() for i in range(20))


def test_a_coarser_resolution_does_not_shift_the_image_against_its_label() -> None:
    """On a ramp, a shift by a pixel changes all values by 1."""
    ramp = torch.arange(64.0).repeat(3, 64, 1)
    coarser = next(t for t in Augmentation(64, AugmentConfig()).intensity.transforms if "Low" in type(t).__name__)
    coarser.prob = 1.0
    shifts = [(coarser.set_random_state(seed)(ramp) - ramp)[:, 16:48, 16:48].mean().item() for seed in range(20)]
    assert np.abs(np.mean(shifts)) < 0.1
    assert np.abs(shifts).max() < 0.3


@pytest.mark.parametrize("degrees", [15.0, 30.0, 45.0, 180.0])
def test_a_turned_crop_shows_the_slice_up_to_its_corners(degrees: float) -> None:
    """On a ramp of slope 1, pixels repeated beyond the crop's border would have slope 0."""
    rows, columns = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    turned = AugmentConfig(rotation_degrees=degrees, scale=0.0, shift_share=0.0, intensity_probability=0.0)
    augmentation, random = Augmentation(64, turned), np.random.default_rng(0)
    for _ in range(8):
        planes, _ = augmentation(torch.stack([rows, columns, rows]), torch.zeros(1, 200, 200), (100, 100), random)
        slopes = [planes[:2].diff(dim=axis).square().sum(dim=0) for axis in (1, 2)]
        assert all(slope.min() > 0.9 for slope in slopes)


def test_items_have_the_size_and_types_of_training() -> None:
    image, label = dataset([numbered_stack({1: 5}, side=150)], augment=AugmentConfig())[0]
    assert (image.shape, image.dtype) == ((3, 64, 64), torch.float32)
    assert (label.shape, label.dtype) == ((1, 64, 64), torch.int64)


def test_a_split_without_slices_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no slices"):
        dataset([])


def test_a_label_plane_is_halved_by_the_largest_share() -> None:
    plane = torch.zeros(8, 8, dtype=torch.int64)
    plane[:4, :4] = 1
    plane[4:, 4:] = 2
    halved = _resize_label(plane, (4, 4), 3)
    assert halved.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]


def test_resizing_a_label_plane_makes_no_label_between_two_others() -> None:
    plane = torch.ones(30, 30, dtype=torch.int64)
    plane[:, 15:] = 3
    assert set(_resize_label(plane, (11, 11), 4).unique().tolist()) == {1, 3}


def test_a_label_plane_of_the_right_size_stays_as_it_is() -> None:
    plane = torch.randint(0, 4, (6, 5))
    assert torch.equal(_resize_label(plane, (6, 5), 4), plane)
    assert torch.equal(_resize_label(torch.zeros(6, 5, dtype=torch.int64), (3, 2), 4), torch.zeros(3, 2))


def test_a_case_is_loaded_on_the_networks_grid(prepared: Path) -> None:
    case = open_prepared(prepared).cases[0]
    native = load_stack(case, PREPROCESSING, 4)
    coarse = load_stack(case, PreprocessingConfig(in_plane_spacing_mm=8.0, tile_size=64), 4)
    assert native.images.shape == native.labels.shape
    depth, height, width = native.images.shape
    assert coarse.images.shape == coarse.labels.shape == (depth, round(height / 2), round(width / 2))
    shares = [(stack.labels == 1).mean() for stack in (native, coarse)]
    assert shares[0] == pytest.approx(shares[1], rel=0.05)


def test_stacks_run_from_inferior_to_superior_however_the_file_is_stored(prepared: Path, tmp_path: Path) -> None:
    """A case flipped on disk, with its geometry, is the same patient: training must see the same slices."""
    import SimpleITK as sitk

    from udfa_training.dataset import CaseEntry

    case = open_prepared(prepared).cases[0]
    flipped = []
    for path in (case.image, case.label):
        image = sitk.ReadImage(str(path))
        target = tmp_path / f"flipped_{path.name}"
        sitk.WriteImage(sitk.Flip(image, [True, False, True]), str(target))
        flipped.append(target)
    stack = load_stack(case, PREPROCESSING, 4)
    again = load_stack(CaseEntry("x", "x", "train", flipped[0], flipped[1]), PREPROCESSING, 4)
    assert np.array_equal(stack.images, again.images)
    assert np.array_equal(stack.labels, again.labels)
