"""Finding checkpoints by name and path, and the hashes of the bundled ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import udfa
from udfa import models
from udfa.cli import main
from udfa.errors import CheckpointError
from udfa.models import (
    DEFAULT_MODEL,
    PinnedFile,
    bundled_folder,
    check_pins,
    describe_models,
    file_sha256,
    list_models,
    model_folders,
    read_pins,
    resolve_model,
    write_pins,
)

PACKAGE_PARENT = Path(udfa.__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path, mini_checkpoint: Any) -> Path:
    """A folder with one usable checkpoint `heart` and one file `broken` that is none."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(mini_checkpoint.path, folder / "heart.safetensors")
    (folder / "broken.safetensors").write_bytes(b"no checkpoint")
    return folder


def test_the_list_of_bundled_files_agrees_with_the_tree() -> None:
    assert check_pins(bundled_folder()) == []
    assert {pin.name for pin in read_pins(bundled_folder())} == {p.name for p in bundled_folder().glob("*.safetensors")}


def test_the_bundled_folder_lies_beside_the_package() -> None:
    assert bundled_folder() == PACKAGE_PARENT / "Resources" / "models"


def test_further_folders_come_from_the_environment(tmp_path: Path) -> None:
    named = os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")])
    assert model_folders({"UDFA_MODELS": named}) == [bundled_folder(), tmp_path / "a", tmp_path / "b"]
    assert model_folders({}) == [bundled_folder()]


def test_a_broken_file_is_listed_with_its_error_and_hides_nothing(folder: Path) -> None:
    broken, heart = list_models([folder])
    assert (broken.name, broken.info) == ("broken", None)
    assert "is not a safetensors file" in broken.error
    assert heart.info is not None
    assert (heart.name, heart.error, heart.bundled) == ("heart", "", False)


def test_a_missing_folder_is_passed_over(folder: Path, tmp_path: Path) -> None:
    assert [entry.name for entry in list_models([tmp_path / "none", folder])] == ["broken", "heart"]


def test_the_hidden_files_that_macos_leaves_are_no_models(folder: Path) -> None:
    (folder / "broken.safetensors").rename(folder / "._heart.safetensors")
    assert [entry.name for entry in list_models([folder])] == ["heart"]
    assert [pin.name for pin in write_pins(folder)] == ["heart.safetensors"]


def test_a_name_that_occurs_twice_means_the_first_folder(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(folder, second)
    entries = list_models([folder, second])
    assert [entry.error[:18] for entry in entries if entry.name == "heart"] == ["", "The name is taken "]
    assert resolve_model("heart", [folder, second]) == folder / "heart.safetensors"


def test_names_and_paths_are_resolved(folder: Path) -> None:
    assert resolve_model("heart", [folder]) == folder / "heart.safetensors"
    assert resolve_model(str(folder / "heart.safetensors"), []) == folder / "heart.safetensors"


def test_the_default_is_the_only_usable_model_or_the_abdominal_one(folder: Path) -> None:
    assert resolve_model(None, [folder]) == folder / "heart.safetensors"
    shutil.copy(folder / "heart.safetensors", folder / "lung.safetensors")
    with pytest.raises(CheckpointError, match=r"'abdomen-ct-mini' is not here\. There are: heart, lung\."):
        resolve_model(None, [folder])
    shutil.copy(folder / "heart.safetensors", folder / f"{DEFAULT_MODEL}.safetensors")
    assert resolve_model(None, [folder]) == folder / "abdomen-ct-mini.safetensors"


def test_an_unknown_name_gives_the_names_there_are(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model 'liver'\. There are: heart\."):
        resolve_model("liver", [folder])
    with pytest.raises(CheckpointError, match=r"no model ''\. There are: heart\."):
        resolve_model("", [folder])
    with pytest.raises(CheckpointError, match="There is none on this machine"):
        resolve_model("liver", [])


def test_a_broken_model_and_a_missing_path_are_refused_with_the_reason(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'broken' cannot be used: .*is not a safetensors file"):
        resolve_model("broken", [folder])
    with pytest.raises(CheckpointError, match="does not exist"):
        resolve_model(str(folder / "none.safetensors"), [folder])


def test_the_description_has_labels_share_licence_and_provenance(folder: Path, mini_checkpoint: Any) -> None:
    text = describe_models(list_models([folder]))
    share = mini_checkpoint.network.parameter_counts()
    for part in ("liver, spleen", f"{share[0] / share[1]:.1%} of", "CC-BY-4.0", "Tests only", "commit 0123abc"):
        assert part in text
    assert "broken\n  cannot be used: " in text
    assert "mean Dice 0.500" in text


def test_the_provenance_counts_the_patients(
    tmp_path: Path, mini_checkpoint: Any, edit_document: Callable[..., Path]
) -> None:
    def train(document: dict[str, Any]) -> None:
        document["training"] = {"data_set": "Synapse", "train": ["1", "2"], "validation": ["3"]}

    edit_document(mini_checkpoint.path, tmp_path / "a.safetensors", train)
    assert "trained on:   Synapse, 2 training patients, 1 validation patients" in describe_models(
        list_models([tmp_path])
    )


def test_the_command_lists_the_users_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UDFA_MODELS", str(folder))
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "\nheart\n  task:" in "\n" + out
    assert "broken\n  cannot be used" in out


def test_an_empty_list_says_what_to_do() -> None:
    text = describe_models([])
    assert "none on this machine" in text
    assert "UDFA_MODELS" in text


def test_the_pins_are_the_sizes_and_hashes_of_the_files(folder: Path) -> None:
    (folder / "broken.safetensors").unlink()
    path = folder / "heart.safetensors"
    assert write_pins(folder) == [PinnedFile(path.name, file_sha256(path), path.stat().st_size)]
    assert read_pins(folder) == write_pins(folder)
    assert check_pins(folder) == []


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_missing_changed_truncated_and_unlisted_files_are_noticed(folder: Path) -> None:
    (folder / "broken.safetensors").unlink()
    write_pins(folder)
    path = folder / "heart.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [problem.split(" instead")[0][:30] for problem in check_pins(folder)] == ["heart.safetensors has SHA-256 "]
    path.write_bytes(data[:-1])
    assert check_pins(folder) == [f"heart.safetensors has {len(data) - 1} bytes instead of {len(data)}."]
    path.rename(folder / "new.safetensors")
    assert check_pins(folder) == [
        "heart.safetensors is missing.",
        "new.safetensors is not listed in models.json.",
    ]


def test_no_list_is_written_for_a_folder_with_a_broken_file(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="broken"):
        write_pins(folder)
    assert not (folder / "models.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"files": [{"name": "a"}]}', '{"files": 3}'])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"models\.json is damaged"):
        read_pins(tmp_path)


def test_the_list_is_renewed_and_checked_from_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.safetensors").unlink()
    assert models.main(["--folder", str(folder), "--check"]) == 1
    assert "models.json cannot be read" in capsys.readouterr().err
    assert models.main(["--folder", str(folder), "--write"]) == 0
    assert models.main(["--folder", str(folder), "--check"]) == 0
    document = json.loads((folder / "models.json").read_text())
    document["files"][0]["sha256"] = "0" * 64
    (folder / "models.json").write_text(json.dumps(document))
    assert models.main(["--folder", str(folder), "--check"]) == 1
    assert "SHA-256" in capsys.readouterr().out


def test_listing_needs_neither_torch_nor_numpy(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'SimpleITK', 'safetensors'): sys.modules[name] = None\n"
        "from udfa.cli import main\n"
        "sys.exit(main(['models']))"
    )
    environ = {**os.environ, "UDFA_MODELS": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE_PARENT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "heart" in done.stdout
