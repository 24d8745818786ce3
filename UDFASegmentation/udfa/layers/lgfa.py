"""Local-Global Fusion Adapter (LGFA): dual fusion attention between SPA maps and ViT tokens.

The abstract of arXiv 2510.00585 says that LGFA modules inject SPA features into the frozen DINOv2 blocks at multiple
stages and fuse them with the blocks' features. How is our choice: the zero-initialised gamma and the place between
groups of blocks follow ViT-Adapter's injector and extractor (arXiv 2205.08534), with plain scaled dot-product
attention in a narrow bottleneck instead of deformable attention, so that no compiled operator is needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udfa.layers.conv import make_norm


class CrossAttention(nn.Module):
    """Queries attend to a context. (B, N, Dq), (B, M, Dc) -> (B, N, Dq).

    Args:
        query_dim: Dq, width of the queries and of the output.
        context_dim: Dc, width of the context.
        width: Width of the bottleneck in which attention happens.
        heads: Attention heads.
    """

    def __init__(self, query_dim: int, context_dim: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(query_dim, width)
        self.to_key_value = nn.Linear(context_dim, 2 * width)
        self.to_output = nn.Linear(width, query_dim)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        query = self._split(self.to_query(queries))
        key, value = (self._split(part) for part in self.to_key_value(context).chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_output(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class LocalToGlobal(nn.Module):
    """Injection: ViT patch tokens query the SPA maps of strides 8, 16 and 32. (B, N, D) -> (B, N, D).

    The output is scaled by a learned gamma that starts at 0: an untrained U-DFA passes the ViT's tokens on unchanged.
    """

    def __init__(self, token_dim: int, map_channels: tuple[int, int, int], width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(c, width, kernel_size=1) for c in map_channels)
        self.level = nn.Parameter(torch.zeros(len(map_channels), 1, width))
        self.query_norm = nn.LayerNorm(token_dim)
        self.context_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(token_dim, width, width, heads)
        self.local = nn.Linear(width, token_dim)
        self.gamma = nn.Parameter(torch.zeros(token_dim))

    def forward(self, tokens: Tensor, maps: list[Tensor]) -> Tensor:
        levels = [
            project(m).flatten(2).transpose(1, 2) + level for project, m, level in zip(self.project, maps, self.level)
        ]
        context = self.context_norm(torch.cat(levels, dim=1))
        # The stride-16 map and the token grid coincide, so each token also receives its own place's pattern directly.
        aligned = context[:, levels[0].shape[1] : levels[0].shape[1] + tokens.shape[1]]
        update = self.attention(self.query_norm(tokens), context) + self.local(aligned)
        return tokens + self.gamma * update


class GlobalToLocal(nn.Module):
    """Extraction: SPA maps take up the ViT's view. Maps keep their shapes.

    The stride-16 map attends to the tokens; the maps of strides 8 and 32 are scaled by channel gates from the mean
    token. All start as the identity (zero-initialised last layers).
    """

    def __init__(self, token_dim: int, map_channels: tuple[int, int, int], width: int, heads: int) -> None:
        super().__init__()
        c8, c16, c32 = map_channels
        self.token_norm = nn.LayerNorm(token_dim)
        self.query_norm = make_norm("group", c16)
        self.attention = CrossAttention(c16, token_dim, width, heads)
        self.local = nn.Linear(token_dim, c16)
        self.gate8 = nn.Linear(token_dim, c8)
        self.gate32 = nn.Linear(token_dim, c32)
        for gate in (self.gate8, self.gate32):
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    def forward(self, tokens: Tensor, maps: list[Tensor]) -> list[Tensor]:
        m8, m16, m32 = maps
        tokens = self.token_norm(tokens)
        queries = self.query_norm(m16).flatten(2).transpose(1, 2)
        update = self.attention(queries, tokens) + self.local(tokens)
        m16 = m16 + update.transpose(1, 2).unflatten(2, m16.shape[2:])
        mean = tokens.mean(dim=1)
        return [_gated(m8, self.gate8(mean)), m16, _gated(m32, self.gate32(mean))]


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    """Scale channels by 2 sigmoid(gate), which is 1 at gate 0. (B, C, H, W), (B, C) -> (B, C, H, W)."""
    return x * (2 * torch.sigmoid(gate))[:, :, None, None]


class LocalGlobalFusionAdapter(nn.Module):
    """One LGFA: `inject` before a group of ViT blocks, `extract` after it.

    Args:
        token_dim: Width D of the backbone's tokens.
        map_channels: Channels of the SPA maps at strides 8, 16 and 32.
        width: Bottleneck width.
        heads: Attention heads.
        both_directions: False leaves out the global-to-local direction (ablation).
    """

    def __init__(
        self, token_dim: int, map_channels: tuple[int, int, int], width: int, heads: int, both_directions: bool = True
    ) -> None:
        super().__init__()
        self.local_to_global = LocalToGlobal(token_dim, map_channels, width, heads)
        self.global_to_local = GlobalToLocal(token_dim, map_channels, width, heads) if both_directions else None

    def inject(self, tokens: Tensor, maps: list[Tensor]) -> Tensor:
        """Patch tokens (B, N, D) and maps at strides 8, 16, 32 -> updated patch tokens (B, N, D)."""
        updated: Tensor = self.local_to_global(tokens, maps)
        return updated

    def extract(self, tokens: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """Patch tokens (B, N, D) and maps at strides 8, 16, 32 -> updated maps of the same shapes."""
        if self.global_to_local is None:
            return maps
        updated: list[Tensor] = self.global_to_local(tokens, maps)
        return updated
