"""How the doubles of qMRML widgets hear of nodes that leave the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vtk


def beforeRemoval(scene: Any, react: Callable[[Any], None]) -> int:
    """Have a node announced that is about to leave the scene, when others have heard of it; returns the tag."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def callback(caller: Any, event: str, node: Any) -> None:
        if not caller.IsClosing():
            react(node)

    return int(scene.AddObserver(scene.NodeAboutToBeRemovedEvent, callback, -10.0))


def neighbour(nodes: list[Any], leaving: Any) -> Any:
    """The node that takes the place of one in a list, else the last one; None if there is none."""
    left = [node for node in nodes if node is not leaving]
    place = next((i for i, node in enumerate(nodes) if node is leaving), 0)
    return left[min(place, len(left) - 1)] if left else None


def stopObserving(observed: list[tuple[Any, int]], destroyed: Any = None) -> None:
    """Remove observers, given as pairs of scene and tag, and empty the list."""
    while observed:
        scene, tag = observed.pop()
        scene.RemoveObserver(tag)
