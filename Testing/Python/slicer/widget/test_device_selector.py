"""The device drop-down, with a double of torch's CUDA and MPS parts."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

GIB = 2**30


class Cuda:
    """`torch.cuda` on a computer with some graphics cards: name, free and total memory in GiB."""

    def __init__(self, *cards: tuple[str, float, float]) -> None:
        self.cards = cards

    def is_available(self) -> bool:
        return bool(self.cards)

    def device_count(self) -> int:
        return len(self.cards)

    def get_device_name(self, index: int) -> str:
        return self.cards[index][0]

    def mem_get_info(self, index: int) -> tuple[int, int]:
        _name, free, total = self.cards[index]
        if free < 0:
            raise RuntimeError("CUDA error: device kernel image is invalid")
        return int(free * GIB), int(total * GIB)


@pytest.fixture
def devices(_doubles):
    from UDFASegmentationLib import DeviceSelector

    return DeviceSelector


def choices(devices, monkeypatch, cuda: Cuda, mps: bool = False) -> list[tuple[str, str]]:
    torch = ModuleType("torch")
    torch.cuda = cuda
    torch.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))
    monkeypatch.setitem(sys.modules, "torch", torch)
    return [(choice.name, choice.title) for choice in devices.findDevices()]


def test_each_graphics_card_is_listed_with_its_name_and_free_memory_before_the_processor(devices, monkeypatch):
    cuda = Cuda(("NVIDIA RTX A4000", 12.34, 16.0), ("NVIDIA T400", 0.5, 2.0))
    assert choices(devices, monkeypatch, cuda) == [
        ("cuda:0", "NVIDIA RTX A4000 (12.3 of 16 GB free)"),
        ("cuda:1", "NVIDIA T400 (0.5 of 2 GB free)"),
        ("cpu", "Processor (CPU)"),
    ]


def test_a_card_that_does_not_answer_is_left_out_and_the_others_stay(devices, monkeypatch):
    cuda = Cuda(("Old card", -1, 4.0), ("NVIDIA RTX A4000", 12.0, 16.0))
    assert [name for name, _title in choices(devices, monkeypatch, cuda)] == ["cuda:1", "cpu"]


def test_apple_graphics_are_listed_where_there_are_any(devices, monkeypatch):
    assert choices(devices, monkeypatch, Cuda(), mps=True) == [
        ("mps", "Apple graphics (MPS)"),
        ("cpu", "Processor (CPU)"),
    ]


def test_without_a_graphics_card_there_is_the_processor(devices, monkeypatch):
    assert choices(devices, monkeypatch, Cuda()) == [("cpu", "Processor (CPU)")]


def test_the_list_appears_when_the_section_is_opened_and_a_card_can_be_chosen(opened, fake, volume):
    opened.settle()
    assert [opened.ui.deviceSelector.itemText(i) for i in range(opened.ui.deviceSelector.count)] == [
        "Automatic",
        "Processor (CPU)",
    ]
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    assert opened.ui.deviceSelector.itemText(1) == "Test GPU (7.5 of 8 GB free)"
    opened.ui.deviceSelector.setCurrentIndex(1)
    opened.settle()
    assert opened.panel.parameterNode.device == "cuda:0"
    opened.click("segmentButton")
    opened.settle()
    assert [device for _path, device, _precision in fake.loaded] == ["cuda:0"]


def test_a_device_of_the_scene_that_this_computer_lacks_falls_back_to_automatic(opened):
    opened.panel.parameterNode.device = "cuda:3"
    assert opened.ui.deviceSelector.currentText == "cuda:3"
    opened.ui.advancedCollapsibleButton.collapsed = False
    opened.settle()
    assert opened.ui.deviceSelector.currentText == "Automatic"
    assert opened.panel.devices.current == "auto"


def test_the_device_of_the_settings_is_where_new_scenes_start(opened):
    opened.panel._services.settings.write(device="cpu")
    opened.widget.enter()
    assert opened.panel.devices.current == "cpu"
    opened.panel.parameterNode.device = "auto"
    assert opened.panel.devices.current == "auto"
