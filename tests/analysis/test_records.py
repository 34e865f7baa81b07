"""How results were made, and the files that they are kept in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import records

from diffrelax.benchmark.estimates import Estimate
from diffrelax.models.release import Model


def test_a_result_names_its_command_model_and_hardware(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["analysis/x.py", "a folder", "/home/me/sets/train.npz", "../data", "-n", "3"]
    )
    made = records.how_made(model, split="test", n=3)
    assert made["command"] == "python analysis/x.py 'a folder' sets/train.npz data -n 3"
    assert (made["model"], made["sha256"]) == (model.name, model.sha256)
    assert (made["split"], made["n"]) == ("test", 3)
    plain, shared = (records.how_made(shared=beside) for beside in (False, True))
    assert set(plain) == {"command", "hardware"}
    assert shared["hardware"] == plain["hardware"] + ", shared with other work"


def test_a_record_is_stored_whole_with_its_estimates(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    records.store(path, {"length": "1 Å", "median": Estimate(2.0, 1.0)})
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n") and "Å" in text
    assert json.loads(text)["median"] == [2.0, 1.0, None]
    with pytest.raises(TypeError):
        records.store(path, {"path": path})
    assert path.read_text(encoding="utf-8") == text and [*tmp_path.iterdir()] == [path]
    records.store(path, [1, 2], indent=None)
    assert path.read_text() == "[1, 2]\n"
