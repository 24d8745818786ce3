"""The repository as a whole: small enough, licensed, finished, and free of the traces of one computer."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

import pytest

MEBIBYTE = 2**20
TEXT_SUFFIXES = {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".json", ".cmake", ".ui", ".svg", ".s4ext", ".cfg", ""}
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b|@@\w+@@")
ONE_COMPUTER = re.compile(r"(?<![\w.~])/(?:work|root|opt/udfa)/")


def texts(repository: Path, files: list[Path]) -> dict[Path, str]:
    """Content of all text files but this one."""
    own = Path(__file__).resolve().relative_to(repository)
    chosen = [path for path in files if path.suffix in TEXT_SUFFIXES and path != own]
    return {path: (repository / path).read_text(encoding="utf-8") for path in chosen}


def test_the_repository_stays_below_80_mib_and_each_file_below_25(
    repository: Path, repository_files: list[Path]
) -> None:
    sizes = {path: (repository / path).stat().st_size for path in repository_files}
    assert [path for path, size in sizes.items() if size > 25 * MEBIBYTE] == []
    assert sum(sizes.values()) < 80 * MEBIBYTE


def test_the_licence_is_the_unchanged_apache_licence(repository: Path) -> None:
    # The SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt without its leading empty line.
    digest = hashlib.sha256((repository / "LICENSE").read_bytes()).hexdigest()
    assert digest == "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"


def test_no_work_is_left_marked_as_unfinished(repository: Path, repository_files: list[Path]) -> None:
    found = {path: UNFINISHED.findall(text) for path, text in texts(repository, repository_files).items()}
    assert {path: words for path, words in found.items() if words} == {}


def test_no_file_names_a_folder_of_one_computer(repository: Path, repository_files: list[Path]) -> None:
    found = {path: ONE_COMPUTER.findall(text) for path, text in texts(repository, repository_files).items()}
    assert {path: places for path, places in found.items() if places} == {}


@pytest.mark.parametrize("line", ["see /work/x", "open('/root/a')", "(/opt/udfa/b)", "file:///root/a"])
def test_a_folder_of_one_computer_is_recognised(line: str) -> None:
    assert ONE_COMPUTER.search(line)


@pytest.mark.parametrize("line", ["https://a.org/work/x", "~/work/x", "../work/x", "/tmp/x", "/opt/x"])
def test_other_paths_are_not_taken_for_one(line: str) -> None:
    assert not ONE_COMPUTER.search(line)


@pytest.mark.parametrize("folder", ["UDFASegmentation", "training"])
def test_no_source_file_is_longer_than_400_lines(repository: Path, folder: str) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (repository / folder).rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_shipped_code_has_no_assert_statement(repository: Path) -> None:
    for path in (repository / "UDFASegmentation").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert [node.lineno for node in nodes if isinstance(node, ast.Assert)] == [], path


def test_every_relative_link_of_the_documentation_leads_to_a_file(
    repository: Path, repository_files: list[Path]
) -> None:
    documents = [path for path in repository_files if path.suffix == ".md"]
    assert Path("README.md") in documents
    dead = []
    for document in documents:
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (repository / document).read_text(encoding="utf-8"))
        local = [link for link in links if not re.match(r"[a-z]+:", link)]
        dead += [f"{document}: {link}" for link in local if not (repository / document.parent / link).exists()]
    assert dead == []
