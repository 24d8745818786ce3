"""Files made to harm: nothing in them is executed, and whatever they hold, the error is a CheckpointError."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from udfa.checkpoint import content_sha256, load_checkpoint, read_info
from udfa.errors import CheckpointError
from udfa.networks.backbone import FrozenBackbone, load_pretrained
from udfa.safetensors_file import read_header, read_tensors

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def write_pickle(path: Path, content: Any, how: str) -> None:
    if how == "zip":
        torch.save(content, path)
    elif how == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(how)))


def test_the_trap_of_these_tests_works(tmp_path: Path) -> None:
    write_pickle(tmp_path / "a", Trap(tmp_path / "sprung"), "4")
    pickle.loads((tmp_path / "a").read_bytes())
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("how", ["zip", "legacy", "0", "2", "3", "4", "5"])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, how: str) -> None:
    path, sprung = tmp_path / "model.safetensors", tmp_path / "sprung"
    write_pickle(path, {"weight": torch.zeros(2), "trap": Trap(sprung)}, how)
    message = "pickle-based PyTorch file. It could run code" if how != "0" else "not a safetensors file"
    for read in (read_info, read_tensors, load_checkpoint):
        with pytest.raises(CheckpointError, match=message):
            read(path)
    with torch.device("meta"):
        backbone = FrozenBackbone("dinov2_vits14")
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(backbone, path)
    assert not sprung.exists()


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    """640 bytes of header begin with the bytes 80 02, as a pickle of protocol 2 does."""
    path = tmp_path / "a.safetensors"
    header = json.dumps({"__metadata__": {"note": ""}}).encode()
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length))
    assert read_header(path) == {"__metadata__": {"note": ""}}


@FUZZ
@given(raw=st.binary(max_size=300))
def test_random_bytes_only_ever_raise_checkpoint_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    for read in (read_info, read_tensors):
        with pytest.raises(CheckpointError):
            read(path)


@FUZZ
@given(text=st.text(max_size=60) | JSON.map(json.dumps), data=st.binary(max_size=20))
def test_random_headers_only_ever_raise_checkpoint_error(tmp_path: Path, text: str, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    header = text.encode("utf-8", "surrogatepass")
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    with pytest.raises(CheckpointError):
        read_info(path)


TENSOR = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "F16", "I8", "F4", "??"]) | JSON, "shape": st.lists(st.integers(-1, 3)) | JSON},
    optional={"data_offsets": st.lists(st.integers(-1, 20) | JSON, min_size=1, max_size=3) | JSON},
)


@FUZZ
@given(
    header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), TENSOR | JSON, max_size=3),
    data=st.binary(max_size=20),
)
def test_random_tensor_tables_only_ever_raise_checkpoint_error(
    tmp_path: Path, safetensors_parts: Any, header: dict[str, Any], data: bytes
) -> None:
    path = safetensors_parts[1](tmp_path / "a.safetensors", header, data)
    with pytest.raises(CheckpointError):
        read_info(path)
    with suppress(CheckpointError):
        read_tensors(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"__metadata__": ' + "[" * 5_000 + "]" * 5_000 + "}"]
)
def test_deep_nesting_only_ever_raises_checkpoint_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
    with pytest.raises(CheckpointError):
        read_info(path)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all entries of a JSON document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = [path] if path else []
    for key, value in items:
        found += places(value, (*path, key))
    return found


@pytest.fixture(scope="session")
def small_file(mini_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metadata of the `mini` checkpoint with a single small weight, for fast fuzzing."""
    raw = mini_checkpoint.path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file({"decoder.head.bias": torch.zeros(12)}, path, metadata=header["__metadata__"])
    return path


def rehash(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Make the document's hash fit, so that loading goes on to what the hash protects."""
    if isinstance(document.get("content_sha256"), str):
        document["content_sha256"] = content_sha256(document, tensors)


def read_both(path: Path) -> None:
    """Reading may succeed where the change does no harm; loading never may, since weights are missing."""
    with suppress(CheckpointError):
        read_info(path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@settings(FUZZ, max_examples=80)
@given(seed=st.integers(0, 10**6), value=JSON, hashed=st.booleans())
def test_random_changes_of_the_metadata_only_ever_raise_checkpoint_error(
    small_file: Path, tmp_path: Path, edit_document: Callable[..., Path], seed: int, value: Any, hashed: bool
) -> None:
    tensors = load_file(small_file)

    def change(document: dict[str, Any]) -> None:
        *parents, last = random.Random(seed).choice(places(document))
        target: Any = document
        for key in parents:
            target = target[key]
        if seed % 4 == 0:
            del target[last]
        else:
            target[last] = value
        if hashed:
            rehash(document, tensors)

    read_both(edit_document(small_file, tmp_path / "a.safetensors", change))


@settings(FUZZ, max_examples=80)
@given(place=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_random_bytes_in_the_header_only_ever_raise_checkpoint_error(
    small_file: Path, tmp_path: Path, place: int, byte: int
) -> None:
    raw = bytearray(small_file.read_bytes())
    end = 8 + int.from_bytes(raw[:8], "little")
    raw[place % end] = byte
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    read_both(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("parameters", "total"), 0),
        (("parameters", "trainable"), 10**12),
        (("parameters", "trainable"), 1.5),
        (("backbone", "inside"), False),
        (("backbone", "inside"), 1),
        (("backbone", "name"), "dinov2_vits14"),
        (("label_table", 0, "name"), "kidney"),
        (("label_table", 0, "value"), 2),
        (("label_table", 0, "color"), [0, 0, 256]),
        (("label_table", 0, "color"), [0, 0]),
        (("label_table", 0, "color"), [0, 0, float("inf")]),
        (("label_table", 0, "title"), None),
        (("label_table",), []),
        (("licence",), 7),
        (("metrics",), []),
        (("training",), None),
        (("content_sha256",), 5),
        (("format_version",), 0),
        (("format_version",), True),
        (("format_version",), "1"),
        (("config", "network", "lgfa_heads"), 0),
        (("config", "preprocessing", "in_plane_spacing_mm"), 10**400),
        (("config", "labels"), ["liver", "liver"]),
    ],
)
def test_contradictions_in_the_metadata_are_found_when_it_is_read(
    small_file: Path, tmp_path: Path, edit_document: Callable[..., Path], path: tuple[Any, ...], value: Any
) -> None:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    changed = edit_document(small_file, tmp_path / "a.safetensors", change)
    with pytest.raises(CheckpointError, match="incomplete or inconsistent|is damaged"):
        read_info(changed)
