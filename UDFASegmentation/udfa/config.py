"""Configuration: frozen dataclasses that validate themselves and travel inside the checkpoint.

The same classes serve the command line, YAML files, the Slicer module and the checkpoint metadata,
so that there is one definition of every setting.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, TypeVar

from udfa.errors import InvalidInputError

BACKBONE_WIDTHS: dict[str, int] = {
    "mini": 192,
    "dinov2_vits14": 384,
    "dinov2_vitb14": 768,
    "dinov2_vitl14": 1024,
    "dinov2_vits14_reg4": 384,
    "dinov2_vitb14_reg4": 768,
    "dinov2_vitl14_reg4": 1024,
}
"""Token width D of every supported backbone."""

SIZE_MULTIPLE = 32
"""Height and width of a network input must be multiples of this: the coarsest SPA map has stride 32."""

MAX_CLASSES = 256
"""Labelmaps are uint8, so that is how many classes they can tell apart."""

DEFAULT_CARRY_SLICES = 10
"""How many slices up and down a correction may be carried, unless the user says otherwise."""

Norm = Literal["instance", "group"]
"""Normalisations of the convolution blocks."""

T = TypeVar("T")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInputError(message)


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a U-DFA network. Everything but the frozen backbone and its adapters' idea is our own choice."""

    backbone: str = "mini"
    """Key of BACKBONE_WIDTHS."""
    num_classes: int = 14
    """Output channels, background included."""
    spa_channels: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128)
    """Channels of the SPA pyramid at strides 2, 4, 8, 16 and 32."""
    lgfa_width: int = 64
    """Width of the narrow bottleneck in which both attention directions work."""
    lgfa_heads: int = 2
    """Attention heads; must divide lgfa_width."""
    lgfa_direction: Literal["both", "inject", "none"] = "both"
    """Which attention directions are built: both, local-to-global only, or no adapter (for ablations)."""
    decoder_channels: tuple[int, int, int, int] = (96, 64, 48, 32)
    """Channels of the decoder at strides 16, 8, 4 and 2; the head reaches stride 1 by sub-pixel shuffle."""
    norm: Norm = "instance"
    """Normalisation after the convolutions, as in nnU-Net: instance (each channel by itself). group (8 channels
    together) is what checkpoints of format 1 have; it learns much more slowly, see training/README.md."""
    prompt_channels: Optional[tuple[int, int, int, int]] = None
    """Channels of the prompt encoder at strides 2, 4, 8 and 16; None when the model takes no clicks."""

    def __post_init__(self) -> None:
        _require(
            self.backbone in BACKBONE_WIDTHS,
            f"Unknown backbone '{self.backbone}'. Known: {', '.join(BACKBONE_WIDTHS)}.",
        )
        _require(self.num_classes >= 2, f"num_classes is {self.num_classes}, but needs background and one label.")
        _require(self.num_classes <= MAX_CLASSES, f"num_classes is {self.num_classes}, but at most {MAX_CLASSES} fit.")
        for name in ("lgfa_width", "lgfa_heads"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, but must be positive.")
        _require(
            self.lgfa_width % self.lgfa_heads == 0,
            f"lgfa_width {self.lgfa_width} is not a multiple of lgfa_heads {self.lgfa_heads}.",
        )
        for name in ("spa_channels", "decoder_channels", "prompt_channels"):
            channels = getattr(self, name) or ()
            _require(
                all(c > 0 and c % 8 == 0 for c in channels),
                f"{name} {channels} must be positive multiples of 8 (group normalisation uses groups of 8).",
            )


@dataclass(frozen=True)
class PreprocessingConfig:
    """How a volume becomes network input. Belongs to the checkpoint: module, CLI, training and evaluation share it."""

    modality: Literal["CT", "MR"] = "CT"
    """CT expects Hounsfield units; MR has arbitrary intensities."""
    window_hu: tuple[float, float] = (-125.0, 275.0)
    """CT only: lower and upper HU, mapped to 0 and 1 with clipping."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """MR only: percentiles of the volume, mapped to 0 and 1 with clipping, before the z-score."""
    mean: float = 0.449
    """Subtracted after the mapping to [0, 1] (CT). The default is the mean of ImageNet's channel means."""
    std: float = 0.226
    """Divided by after the subtraction (CT)."""
    in_plane_spacing_mm: Optional[float] = 2.0
    """Pixel size at which the network works, in mm; None keeps the native pixel grid."""
    finest_spacing_mm: Optional[float] = None
    """Where the native grid is kept: finer pixels than this are resampled to it. Many MR scanners interpolate."""
    slice_axis: Literal["axial", "acquisition"] = "axial"
    """axial: slices along the array axis nearest to superior; acquisition: along the axis of largest spacing."""
    in_slices: Literal[1, 3] = 3
    """3: slices z-1, z, z+1 are the three input channels ("2.5D"); 1: slice z repeated three times."""
    tile_size: int = 256
    """Largest square tile S in pixels; larger slices are covered by overlapping tiles."""
    tile_overlap: float = 0.5
    """Share of a tile that overlaps its neighbour, 0 to 0.9."""
    crop_to_body: bool = True
    """CT only: leave out the air around the patient (the result there is background)."""

    def __post_init__(self) -> None:
        spacings = {name: getattr(self, name) for name in ("in_plane_spacing_mm", "finest_spacing_mm")}
        given = [spacing for spacing in spacings.values() if spacing is not None]
        numbers = (*self.window_hu, *self.percentiles, self.mean, self.std, *given)
        _require(all(map(math.isfinite, numbers)), "Preprocessing values must be finite: NaN or infinity found.")
        _require(self.window_hu[0] < self.window_hu[1], f"window_hu {self.window_hu} must be (lower, upper).")
        low, high = self.percentiles
        _require(0 <= low < high <= 100, f"percentiles {self.percentiles} must satisfy 0 <= lower < upper <= 100.")
        _require(self.std > 0, f"std is {self.std}, but must be positive.")
        for name, spacing in spacings.items():
            _require(spacing is None or spacing > 0, f"{name} is {spacing}, but must be positive or null.")
        _require(
            self.tile_size > 0 and self.tile_size % SIZE_MULTIPLE == 0,
            f"tile_size is {self.tile_size}, but must be a multiple of {SIZE_MULTIPLE}.",
        )
        _require(0 <= self.tile_overlap <= 0.9, f"tile_overlap is {self.tile_overlap}, but must be within 0 and 0.9.")


@dataclass(frozen=True)
class PostprocessingConfig:
    """Clean-up of the labelmap after inference."""

    largest_component_labels: tuple[str, ...] = ()
    """Names of the labels of which only the largest connected component (26-neighbourhood) is kept by default."""
    small_part_labels: tuple[str, ...] = ()
    """Names of the labels whose connected parts are removed by default if they are small beside the largest one."""
    small_part_share: float = 0.1
    """Parts with fewer voxels than this share of the largest part are small."""

    def __post_init__(self) -> None:
        _require(
            0 <= self.small_part_share <= 1, f"small_part_share is {self.small_part_share}, but must be within 0 and 1."
        )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that is needed to rebuild a model and to use it as it was trained."""

    task: str
    """Human-readable task, such as "Abdominal organs (CT)"."""
    labels: tuple[str, ...]
    """Names of the labels 1..K as in udfa.labels; label 0 is background."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Shape of the network."""
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    """How a volume becomes network input."""
    postprocessing: PostprocessingConfig = field(default_factory=PostprocessingConfig)
    """Clean-up of the labelmap."""

    def __post_init__(self) -> None:
        _require(len(set(self.labels)) == len(self.labels), f"Label names repeat: {self.labels}.")
        _require(
            len(self.labels) + 1 == self.network.num_classes,
            f"{len(self.labels)} labels need num_classes {len(self.labels) + 1}, got {self.network.num_classes}.",
        )
        for name in ("largest_component_labels", "small_part_labels"):
            unknown = set(getattr(self.postprocessing, name)) - set(self.labels)
            _require(not unknown, f"{name} names labels that the model lacks: {sorted(unknown)}.")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as plain JSON types (tuples become lists)."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def from_dict(cls: type[T], data: dict[str, Any], where: str = "configuration") -> T:
    """Build a config dataclass from plain JSON types, strictly.

    Args:
        cls: Dataclass to build; nested dataclasses are built too.
        data: Field name to value. Missing fields take their default.
        where: Name of the source for messages, such as a file path.

    Raises:
        InvalidInputError: A field is unknown, required but missing, or has the wrong type or value.
    """
    _require(isinstance(data, dict), f"{where}: expected a mapping for {cls.__name__}, got {type(data).__name__}.")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(map(str, set(data) - names))
    _require(not unknown, f"{where}: unknown field(s) {', '.join(unknown)} for {cls.__name__}. Known: {sorted(names)}.")
    missing = sorted(_required_fields(cls) - set(data))
    _require(not missing, f"{where}: field(s) {', '.join(missing)} of {cls.__name__} missing.")
    values = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in data.items()}
    try:
        return cls(**values)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error


def _required_fields(cls: type[Any]) -> set[str]:
    """Names of the fields of a dataclass that have no default."""
    unset = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is unset and f.default_factory is unset}


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    if origin is Literal:
        # Equal is not enough: True == 1 and 3.0 == 3.
        correct = any(value == choice and type(value) is type(choice) for choice in arguments)
        _require(correct, f"{where} is {value!r}, but must be one of {', '.join(map(repr, arguments))}.")
        return value
    if origin is typing.Union:
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        _require(isinstance(value, (list, tuple)), f"{where} is {value!r}, but must be a list.")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, where) for item in value)
        _require(len(value) == len(arguments), f"{where} is {value!r}, but needs {len(arguments)} values.")
        return tuple(_convert(a, item, where) for a, item in zip(arguments, value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        _require(abs(value) < sys.float_info.max, f"{where} is an integer too large for a float.")
        return float(value)
    if hint in (int, float, str, bool):
        correct = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
        _require(correct, f"{where} is {value!r}, but must be of type {hint.__name__}.")
    return value
