"""The module's settings over stores that behave like QSettings."""

from __future__ import annotations

import logging

import pytest

from doubles.fakes import MemoryStore
from udfa.errors import InvalidInputError
from UDFASegmentationLib.Settings import FIELDS, Preferences, Settings


class IniStore(MemoryStore):
    """What QSettings does with an ini file: numbers come back as text, lists of one as text, empty lists as None."""

    def value(self, key):
        stored = super().value(key)
        if isinstance(stored, list):
            return {0: None, 1: stored[0] if stored else None}.get(len(stored), stored)
        return None if stored is None else str(stored)


def test_an_empty_store_gives_the_defaults():
    assert Settings(MemoryStore()).read() == Preferences("auto", "auto", 1024, 50, ())


@pytest.mark.parametrize("store", [MemoryStore(), IniStore()], ids=["memory", "ini file"])
def test_what_is_written_is_read_back_with_its_type(store):
    written = Preferences("cuda:1", "bfloat16", 2048, 7, ("/models/a.safetensors", "/models/b, c.safetensors"))
    Settings(store).write(
        device=written.device,
        precision=written.precision,
        cacheMegabytes=written.cacheMegabytes,
        undoDepth=written.undoDepth,
        extraCheckpoints=written.extraCheckpoints,
    )
    assert Settings(store).read() == written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "tpu"),
        ("device", "cuda:x"),
        ("device", "cpu:0"),
        ("precision", "int8"),
        ("cacheMegabytes", 63),
        ("cacheMegabytes", 1.5),
        ("undoDepth", 0),
        ("undoDepth", True),
        ("undoDepth", float("inf")),
        ("undoDepth", "many"),
        ("extraCheckpoints", [1, 2]),
        ("extraCheckpoints", 3),
    ],
)
def test_an_invalid_value_is_refused_and_nothing_is_stored(name, value):
    store = MemoryStore()
    with pytest.raises(InvalidInputError, match=name):
        Settings(store).write(**{"precision": "float32", name: value})
    assert store.values == {}


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="colour"):
        Settings(MemoryStore()).write(colour="red")


def test_a_damaged_value_gives_its_default_and_one_line_in_the_log(caplog):
    store = MemoryStore()
    store.setValue(FIELDS["undoDepth"].key, "fifty")
    store.setValue(FIELDS["device"].key, "CPU ")
    settings = Settings(store)
    with caplog.at_level(logging.WARNING):
        assert settings.read() == Preferences(device="cpu", undoDepth=50)
        settings.read()
    assert len(caplog.records) == 1
    assert "UndoDepth" in caplog.text
    assert "fifty" in caplog.text


def test_a_checkpoint_is_remembered_once_and_forgotten():
    settings = Settings(IniStore())
    settings.addCheckpoint("/a.safetensors")
    settings.addCheckpoint("/b.safetensors")
    assert settings.addCheckpoint("/a.safetensors").extraCheckpoints == ("/a.safetensors", "/b.safetensors")
    assert settings.removeCheckpoint("/a.safetensors").extraCheckpoints == ("/b.safetensors",)
    assert settings.removeCheckpoint("/b.safetensors").extraCheckpoints == ()


@pytest.mark.parametrize("store", [MemoryStore(), IniStore()], ids=["memory", "ini file"])
def test_the_speed_of_a_checkpoint_is_remembered_per_device(store):
    settings = Settings(store)
    assert settings.secondsPerSlice("ab" * 32, "cpu") is None
    settings.rememberSecondsPerSlice("ab" * 32, "cpu", 0.5)
    settings.rememberSecondsPerSlice("ab" * 32, "cuda", 0.01)
    assert settings.secondsPerSlice("ab" * 32, "cpu") == 0.5
    assert settings.secondsPerSlice("ab" * 32, "cuda") == 0.01
    assert settings.secondsPerSlice("cd" * 32, "cpu") is None


def test_a_second_run_averages_with_the_first():
    settings = Settings(MemoryStore())
    settings.rememberSecondsPerSlice("ab" * 32, "cpu", 0.5)
    settings.rememberSecondsPerSlice("ab" * 32, "cpu", 0.3)
    assert settings.secondsPerSlice("ab" * 32, "cpu") == pytest.approx(0.4)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_speed_is_not_remembered(seconds):
    settings = Settings(MemoryStore())
    settings.rememberSecondsPerSlice("ab" * 32, "cpu", seconds)
    assert settings.secondsPerSlice("ab" * 32, "cpu") is None


def test_a_damaged_table_of_speeds_is_as_good_as_none():
    store = MemoryStore()
    store.setValue("UDFASegmentation/SecondsPerSlice", "{not json")
    settings = Settings(store)
    assert settings.secondsPerSlice("ab" * 32, "cpu") is None
    settings.rememberSecondsPerSlice("ab" * 32, "cpu", 0.5)
    assert settings.secondsPerSlice("ab" * 32, "cpu") == 0.5
