"""UDFA.json, UDFA.s4ext and the meta-information in CMakeLists.txt follow the rules of Slicer's Extensions Index."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from extension_build import Extension

NAME = "UDFA"
KNOWN_KEYS = {
    "$schema": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "category": str,
    "enabled": bool,
    "scm_revision": str,
    "scm_type": str,
    "scm_url": str,
    "tier": int,
}
"""Fields of Slicer's schema slicer-extension-catalog-entry-schema-v1.0.1.json, which allows no others."""
S4EXT_KEYS = [
    "scm",
    "scmurl",
    "scmrevision",
    "depends",
    "build_subdirectory",
    "homepage",
    "contributors",
    "category",
    "iconurl",
    "status",
    "tier",
    "description",
    "screenshoturls",
    "enabled",
]
"""Keys of Slicer's template extension_description.s4ext.in, in its order."""


def problems(name: str, text: str) -> list[str]:
    """What the index's checks would say about the description file `name`.json."""
    try:
        data: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        return [f"not JSON: {error}"]
    found = [f"missing {key}" for key in ("$schema", "category", "scm_url") if key not in data]
    found += [f"unknown key {key}" for key in data if key not in KNOWN_KEYS]
    found += [
        f"{key} has the wrong type" for key, kind in KNOWN_KEYS.items() if not isinstance(data.get(key, kind()), kind)
    ]
    if found:
        return found
    url = urlsplit(data["scm_url"])
    if not re.search(r"/Schemas/slicer-extension-catalog-entry-schema-v1\.0\.[12]\.json#?$", data["$schema"]):
        found.append("unknown schema")
    if data["category"] not in ("Segmentation", "Cardiac"):
        found.append("category does not fit")
    if url.scheme not in ("git", "https"):
        found.append("scm_url is neither git nor https")
    if not Path(url.path).stem.startswith("Slicer"):
        found.append("the repository's name does not start with Slicer")
    if name.startswith("Slicer"):
        found.append("the extension's name starts with Slicer")
    if data.get("tier", 1) not in (1, 3, 5):
        found.append("tier is not 1, 3 or 5")
    if "\r" in text or not text.endswith("}\n"):
        found.append("line endings are not LF")
    return found


def test_the_json_description_passes_the_checks_of_the_extensions_index(repository: Path) -> None:
    assert problems(NAME, (repository / "UDFA.json").read_bytes().decode()) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        (NAME, '"category"', '"categories"', "missing category"),
        (NAME, '"tier": 1', '"tier": 2', "tier is not"),
        (NAME, '"tier": 1', '"tier": "1"', "wrong type"),
        (NAME, '"tier": 1', '"tier": 1, "author": "x"', "unknown key author"),
        (NAME, "https://github", "svn://github", "neither git nor https"),
        (NAME, "/SlicerUDFA", "/UDFA", "does not start with Slicer"),
        (NAME, "Segmentation", "Abdomen", "category"),
        (NAME, "v1.0.1", "v0.9", "schema"),
        (NAME, "\n", "\r\n", "LF"),
        (NAME, "{", "", "not JSON"),
        ("SlicerUDFA", "UDFA", "UDFA", "name starts with Slicer"),
    ],
)
def test_a_broken_json_description_is_reported(repository: Path, name: str, old: str, new: str, complaint: str) -> None:
    text = (repository / "UDFA.json").read_text().replace(old, new)
    assert any(complaint in problem for problem in problems(name, text))


def cmake_variables(text: str) -> dict[str, str]:
    """The EXTENSION_* variables as the index's regular expressions find them: name and value on one line."""
    return dict(re.findall(r'^set\(EXTENSION_([A-Z]+) "([^"\n]+)"\)$', text, re.MULTILINE))


def s4ext(text: str) -> dict[str, str]:
    """Key to value of an s4ext description."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines}


@pytest.fixture(scope="module")
def variables(repository: Path) -> dict[str, str]:
    return cmake_variables((repository / "CMakeLists.txt").read_text())


def test_each_cmake_variable_is_on_one_line_and_cmake_sees_the_same(
    variables: dict[str, str], extension: Extension
) -> None:
    keys = ["HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"]
    assert list(variables) == keys
    assert {key: [value] for key, value in variables.items()} == {
        key: extension.record[f"EXTENSION_{key}"] for key in keys
    }


def test_cmake_project_file_name_and_repository_name_agree(repository: Path, extension: Extension) -> None:
    url = json.loads((repository / "UDFA.json").read_text())["scm_url"]
    assert extension.record["project"] == [NAME]
    assert url.endswith(f"/Slicer{NAME}")


def test_json_and_cmake_agree(repository: Path, variables: dict[str, str]) -> None:
    data = json.loads((repository / "UDFA.json").read_text())
    assert data["build_dependencies"] == variables["DEPENDS"].split() == ["PyTorch"]
    assert data["category"] == variables["CATEGORY"]
    assert data["scm_url"] == variables["HOMEPAGE"]


def test_s4ext_has_all_keys_and_agrees_with_json_and_cmake(repository: Path, variables: dict[str, str]) -> None:
    description = s4ext((repository / "UDFA.s4ext").read_text())
    data = json.loads((repository / "UDFA.json").read_text())
    assert list(description) == S4EXT_KEYS
    same_as_cmake = ("homepage", "contributors", "category", "iconurl", "description", "screenshoturls", "depends")
    assert {key: description[key] for key in same_as_cmake} == {key: variables[key.upper()] for key in same_as_cmake}
    assert description["scmurl"] == data["scm_url"]
    assert description["scmrevision"] == data["scm_revision"]
    assert description["tier"] == str(data["tier"])
    assert description["build_subdirectory"] == data["build_subdirectory"]


def raw_file(url: str, repository: Path) -> Path:
    """The file of this repository to which a raw.githubusercontent.com address leads."""
    host, path = urlsplit(url).netloc, urlsplit(url).path
    assert host == "raw.githubusercontent.com", url
    _, owner, name, revision, inside = path.split("/", 4)
    data = json.loads((repository / "UDFA.json").read_text())
    assert f"https://github.com/{owner}/{name}" == data["scm_url"]
    assert revision == data["scm_revision"]
    return repository / inside


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file."""
    data = path.read_bytes()[:24]
    assert data[:8] == b"\x89PNG\r\n\x1a\n", f"{path} is no PNG file"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_icon_address_leads_to_the_icon_of_128_pixels(repository: Path, variables: dict[str, str]) -> None:
    assert png_size(raw_file(variables["ICONURL"], repository)) == (128, 128)


def test_the_screenshot_addresses_lead_to_pictures_in_this_repository(
    repository: Path, variables: dict[str, str]
) -> None:
    for url in variables["SCREENSHOTURLS"].split():
        width, height = png_size(raw_file(url, repository))
        assert min(width, height) >= 200


@pytest.mark.parametrize("name", ["Resources/UDFA", "UDFASegmentation/Resources/Icons/UDFASegmentation"])
def test_each_icon_is_there_as_a_drawing_and_as_128_pixels(repository: Path, name: str) -> None:
    assert "<svg" in (repository / f"{name}.svg").read_text()
    assert png_size(repository / f"{name}.png") == (128, 128)
