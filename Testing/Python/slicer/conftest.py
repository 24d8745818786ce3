"""Starts the headless Slicer once per session, and gives each test an empty scene.

Where slicer-core or OpenGL is missing, tests are skipped with a reason. In CI, UDFA_REQUIRE_SLICER=1 and
UDFA_REQUIRE_RENDERING=1 make that a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headless.requirements import (
    RENDERING_VARIABLE,
    SLICER_VARIABLE,
    is_required,
    missing_rendering,
    missing_slicer,
)

HERE = Path(__file__).parent


class _ModuleWithoutSlicer(pytest.Module):
    """Stands for a test file that cannot be imported, because slicer-core is missing."""

    def collect(self) -> Iterable[Any]:
        if is_required(SLICER_VARIABLE):
            pytest.fail(f"{SLICER_VARIABLE} is set, but: {missing_slicer()}", pytrace=False)
        pytest.skip(missing_slicer(), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Replace test files by a skip or failure when slicer-core is missing."""
    return _ModuleWithoutSlicer.from_parent(parent, path=module_path) if missing_slicer() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that `-m "not slicer"` leaves it out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slicer)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail tests that render where nothing can be rendered."""
    if item.get_closest_marker("rendering") is None or not missing_rendering():
        return
    if is_required(RENDERING_VARIABLE):
        pytest.fail(f"{RENDERING_VARIABLE} is set, but: {missing_rendering()}", pytrace=False)
    pytest.skip(missing_rendering())


@pytest.fixture(autouse=True)
def scene() -> Iterator[Any]:
    """An empty scene, also `slicer.mrmlScene`."""
    from headless.boot import boot, clear_scene

    headless = boot()
    clear_scene()
    yield headless.scene
    assert headless.app.render_blocks == 0, "A pauseRender was left without its resumeRender."
    assert not headless.scene.IsBatchProcessing(), "The scene was left in batch processing."


@pytest.fixture(scope="module")
def _effect_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Doubles of the modules that the effect UDFA Click imports from Slicer."""
    from doubles.harness import installed
    from doubles.scripted_effect import effectModules

    with installed(tmp_path_factory.mktemp("settings")), effectModules():
        yield


@pytest.fixture
def make(_effect_modules: None, scene: Any) -> Iterator[Callable[..., Any]]:
    """Makes benches: a Segment Editor with the effect UDFA Click on a small volume."""
    from doubles.click_bench import benches

    with benches() as create:
        yield create
