"""The network: a frozen DINOv2 that is really frozen, adapters that start as nothing, and shapes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models import vision_transformer

from udfa.config import BACKBONE_WIDTHS, NetworkConfig, from_dict
from udfa.errors import InvalidInputError
from udfa.layers.conv import make_norm
from udfa.networks.backbone import TIMM_NAMES, FrozenBackbone
from udfa.networks.udfa import UDFA

BF16_TOLERANCE = 0.02
"""Largest deviation of bfloat16 from float32 logits, as a share of the logits' range. Measured: 0.005 to 0.007."""


def image(*size: int, seed: int = 0) -> torch.Tensor:
    """Random images (B, 3, H, W)."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def as_the_vit_sees_it(x: torch.Tensor) -> torch.Tensor:
    """Images scaled by 7/8, so that patches of 14 pixels have stride 16 in the original."""
    size = [side * 7 // 8 for side in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bilinear", antialias=True)


def on_meta(**fields: Any) -> UDFA:
    """A network without memory, for what only concerns names and shapes."""
    with torch.device("meta"):
        return UDFA(NetworkConfig(**fields))


@pytest.mark.parametrize("name", ["mini", "dinov2_vits14"])
def test_networks_are_built_without_memory_by_timm_before_1_0_21_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the shares of dropped paths from a tensor, and every checkpoint is first built without memory."""

    def rates(largest: float, depth: int, *_: object) -> list[float]:
        return [share.item() for share in torch.linspace(0, largest, depth)]

    monkeypatch.setattr(vision_transformer, "calculate_drop_path_rates", rates, raising=False)
    network = on_meta(backbone=name)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert len(network.backbone.vit.blocks) == 12


@pytest.mark.parametrize("name", ["mini_network", "vits_network"])
@torch.no_grad()
def test_an_untrained_udfa_passes_the_bare_backbones_tokens_on_unchanged(
    name: str, request: pytest.FixtureRequest
) -> None:
    network: UDFA = request.getfixturevalue(name)
    x = image(2, 3, 64, 96)
    tokens = network.encode(x).tokens
    prefix, patches = network.backbone.split(network.backbone(as_the_vit_sees_it(x)))
    assert prefix.shape[1] == 1
    assert torch.equal(tokens, patches.transpose(1, 2).unflatten(2, (4, 6)))


@torch.no_grad()
def test_adapters_that_have_learned_do_change_the_tokens(mini_network: UDFA, awake_network: UDFA) -> None:
    x = image(1, 3, 64, 64)
    assert (awake_network.encode(x).tokens - mini_network.encode(x).tokens).abs().max() > 0.1


@pytest.mark.parametrize("backbone", ["dinov2_vits14", "dinov2_vits14_reg4"])
@torch.no_grad()
def test_our_backbone_agrees_with_timms_own_forward_at_another_size_than_518(
    backbone: str, kit: Any, vits_network: UDFA
) -> None:
    ours = vits_network.backbone if backbone == "dinov2_vits14" else kit.wake(FrozenBackbone(backbone))
    theirs = timm.create_model(
        TIMM_NAMES[backbone].split(".")[0], pretrained=False, num_classes=0, dynamic_img_size=True
    )
    theirs.load_state_dict(ours.vit.state_dict(), strict=True)
    theirs.eval()
    x = image(2, 3, 56, 84)
    expected = theirs.forward_features(x)
    assert expected.shape == (2, (1 if backbone == "dinov2_vits14" else 5) + 4 * 6, 384)
    assert expected.abs().max() > 1
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_tokens_of_an_untrained_udfa_are_timms_patch_tokens(vits_network: UDFA) -> None:
    x = image(1, 3, 96, 64)
    (expected,) = vits_network.backbone.vit.get_intermediate_layers(as_the_vit_sees_it(x), n=1, reshape=True, norm=True)
    torch.testing.assert_close(vits_network.encode(x).tokens, expected, atol=1e-5, rtol=0)


def test_the_backbone_stays_in_eval_mode_and_asks_for_no_gradient() -> None:
    network = on_meta(backbone="dinov2_vits14")
    network.train()
    assert network.training
    assert network.spa.training
    assert not any(module.training for module in network.backbone.modules())
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())
    others = [p for n, p in network.named_parameters() if not n.startswith("backbone.")]
    assert all(parameter.requires_grad for parameter in others)


@pytest.mark.parametrize("name", ["mini_network", "vits_network"])
def test_gradients_pass_through_the_frozen_backbone_to_the_first_adapter(
    name: str, request: pytest.FixtureRequest
) -> None:
    """The loss sees the final tokens only, so what reaches the first LGFA has crossed all blocks."""
    network: UDFA = request.getfixturevalue(name)
    tokens = network.encode(image(1, 3, 64, 64)).tokens
    (tokens * image(*tokens.shape, seed=1)).sum().backward()
    first, last = network.lgfa[0].local_to_global, network.lgfa[3].local_to_global
    try:
        assert first.gamma.grad.abs().max() > 0
        assert last.gamma.grad.abs().max() > 0
        assert all(parameter.grad is None for parameter in network.backbone.parameters())
    finally:
        network.zero_grad(set_to_none=True)


def test_every_part_outside_the_backbone_learns_from_the_logits(awake_network: UDFA) -> None:
    outputs = awake_network.decode(awake_network.encode(image(2, 3, 64, 64)), deep_supervision=True)
    sum((logits * image(*logits.shape, seed=1)).sum() for logits in outputs).backward()
    try:
        idle = {
            name
            for name, parameter in awake_network.named_parameters()
            if not name.startswith("backbone.") and (parameter.grad is None or not parameter.grad.abs().max() > 0)
        }
        assert idle == set()
        assert all(parameter.grad is None for parameter in awake_network.backbone.parameters())
    finally:
        awake_network.zero_grad(set_to_none=True)


def test_an_optimiser_step_leaves_the_backbone_bit_for_bit_as_it_was() -> None:
    torch.manual_seed(0)
    network = UDFA(NetworkConfig(num_classes=3))
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    network(image(1, 3, 32, 32)).square().mean().backward()
    optimiser.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert not any(key.startswith("backbone.") for key in changed)


def test_only_the_mini_backbone_can_be_unfrozen() -> None:
    with torch.device("meta"):
        mini, small = FrozenBackbone("mini"), FrozenBackbone("dinov2_vits14")
    mini.unfreeze()
    assert all(parameter.requires_grad for parameter in mini.parameters())
    with pytest.raises(InvalidInputError, match="'dinov2_vits14' stays frozen"):
        small.unfreeze()


def test_at_most_33_percent_of_a_vit_s_network_is_trainable_and_less_with_larger_backbones() -> None:
    shares = []
    for backbone in ("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"):
        network = on_meta(backbone=backbone)
        trainable, total = network.parameter_counts()
        assert trainable == sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert total == sum(p.numel() for p in network.parameters())
        shares.append(trainable / total)
    assert 0 < shares[2] < shares[1] < shares[0] <= 0.33


@pytest.mark.parametrize("backbone", [name for name in BACKBONE_WIDTHS if name.endswith("_reg4")])
def test_registers_are_prefix_tokens(backbone: str) -> None:
    with torch.device("meta"):
        vit = FrozenBackbone(backbone)
    assert vit.width == BACKBONE_WIDTHS[backbone]
    prefix, patches = vit.split(torch.zeros(1, 5 + 7, 8))
    assert (prefix.shape[1], patches.shape[1]) == (5, 7)


@pytest.mark.parametrize(
    ("height", "width", "fitting"),
    [(100, 70, "128x96"), (64, 33, "64x64"), (1, 64, "32x64"), (0, 0, "32x32"), (518, 518, "544x544")],
)
def test_a_size_that_does_not_fit_names_sizes_that_do(
    mini_network: UDFA, height: int, width: int, fitting: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        mini_network(torch.zeros(1, 3, height, width))
    message = str(caught.value)
    assert f"got {height}x{width}" in message
    assert f"Pad to {fitting}" in message
    assert "160, 192, 224, 256 or 512" in message


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64)])
def test_an_image_of_another_shape_is_refused(mini_network: UDFA, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(B, 3, H, W\), got"):
        mini_network(torch.zeros(shape))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 32)])
@torch.no_grad()
def test_logits_have_the_images_size_for_every_multiple_of_32(awake_network: UDFA, height: int, width: int) -> None:
    features = awake_network.encode(image(2, 3, height, width))
    assert features.tokens.shape == (2, 192, height // 16, width // 16)
    assert [tuple(m.shape[2:]) for m in features.maps] == [(height // s, width // s) for s in (2, 4, 8, 16, 32)]
    assert awake_network(image(2, 3, height, width)).shape == (2, 3, height, width)


@torch.no_grad()
def test_deep_supervision_adds_logits_at_strides_2_4_and_8(awake_network: UDFA) -> None:
    features = awake_network.encode(image(2, 3, 64, 96))
    shapes = [tuple(logits.shape) for logits in awake_network.decode(features, deep_supervision=True)]
    assert shapes == [(2, 3, 64, 96), (2, 3, 32, 48), (2, 3, 16, 24), (2, 3, 8, 12)]
    (alone,) = awake_network.decode(features)
    assert torch.equal(alone, awake_network.decode(features, deep_supervision=True)[0])


@torch.no_grad()
def test_images_of_a_batch_do_not_influence_each_other(awake_network: UDFA) -> None:
    x = image(3, 3, 64, 64)
    together = awake_network(x)
    torch.testing.assert_close(together[1:2], awake_network(x[1:2]), atol=1e-5, rtol=0)
    other = x.clone()
    other[[0, 2]] = 10 * image(2, 3, 64, 64, seed=1)
    torch.testing.assert_close(awake_network(other)[1], together[1], atol=1e-5, rtol=0)
    assert (awake_network(other)[0] - together[0]).abs().max() > 0.1


@torch.no_grad()
def test_bfloat16_and_float32_agree(awake_network: UDFA) -> None:
    x = image(2, 3, 64, 64)
    exact = awake_network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = awake_network(x).float()
    deviation = (rounded - exact).abs().max() / (exact.max() - exact.min())
    assert 0 < deviation < BF16_TOLERANCE


@torch.no_grad()
def test_places_on_the_token_grid_and_in_the_image_coincide(awake_network: UDFA) -> None:
    """A change within one 16 x 16 block changes the fused stride-16 map most at that block's place."""
    x = image(1, 3, 128, 128)
    other = x.clone()
    other[:, :, 80:96, 32:48] += 3
    change = (awake_network.encode(other).maps[3] - awake_network.encode(x).maps[3]).abs().sum(dim=1)[0]
    assert divmod(int(change.argmax()), 8) == (5, 2)


def test_adapters_in_both_directions_are_built_as_asked() -> None:
    both, inject, none = (set(on_meta(lgfa_direction=d).state_dict()) for d in ("both", "inject", "none"))
    assert {key for key in both - inject if "global_to_local" not in key} == set()
    assert {key for key in inject - none if "local_to_global" not in key} == set()
    assert not any(key.startswith("lgfa.") for key in none)
    assert {key.split(".")[1] for key in inject if key.startswith("lgfa.")} == {"0", "1", "2", "3"}
    assert none < inject < both


@pytest.mark.parametrize("direction", ["inject", "none"])
@torch.no_grad()
def test_without_global_to_local_the_maps_are_the_bare_pyramid(awake_network: UDFA, direction: Any) -> None:
    network = UDFA(NetworkConfig(num_classes=3, lgfa_direction=direction))
    state = awake_network.state_dict()
    network.load_state_dict({key: state[key] for key in network.state_dict()}, strict=True)
    x = image(1, 3, 64, 64)
    features = network.encode(x)
    for fused, bare in zip(features.maps, network.spa(x)):
        assert torch.equal(fused, bare)
    assert not torch.equal(awake_network.encode(x).maps[3], features.maps[3])
    assert network(x).shape == (1, 3, 64, 64)


@torch.no_grad()
def test_untrained_gates_leave_the_maps_of_strides_8_and_32_as_they_are(mini_network: UDFA) -> None:
    x = image(1, 3, 64, 64)
    fused, bare = mini_network.encode(x).maps, mini_network.spa(x)
    assert torch.equal(fused[2], bare[2])
    assert torch.equal(fused[4], bare[4])


def test_the_same_seed_builds_the_same_network() -> None:
    torch.manual_seed(3)
    first = UDFA(NetworkConfig(num_classes=2)).state_dict()
    torch.manual_seed(3)
    second = UDFA(NetworkConfig(num_classes=2)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@torch.no_grad()
def test_instance_normalisation_gives_each_channel_of_each_case_mean_0_and_variance_1() -> None:
    x = 5 + 3 * image(2, 16, 8, 8) * torch.arange(1, 17)[:, None, None]
    normed = make_norm("instance", 16)(x)
    torch.testing.assert_close(normed.mean(dim=(2, 3)), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=(2, 3), correction=0), torch.ones(2, 16), atol=1e-4, rtol=0)


@torch.no_grad()
def test_instance_normalisation_of_a_single_pixel_leaves_the_shift() -> None:
    norm = make_norm("instance", 8)
    norm.bias.copy_(torch.arange(8.0))
    normed = norm(image(3, 8, 1, 1))
    assert torch.equal(normed[:, :, 0, 0], torch.arange(8.0).expand(3, 8))


@torch.no_grad()
def test_both_normalisations_have_the_same_weights_and_other_results(mini_network: UDFA) -> None:
    other = UDFA(dataclasses.replace(mini_network.config, norm="group")).eval()
    other.load_state_dict(mini_network.state_dict(), strict=True)
    x = image(1, 3, 64, 64)
    assert (other(x) - mini_network(x)).abs().max() > 0.01


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="norm"):
        from_dict(NetworkConfig, {"norm": "batch"})
