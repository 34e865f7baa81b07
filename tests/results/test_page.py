"""The page of a report: whole in itself, harmless whatever names it holds, and not too large."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from read_page import ReadPage

from diffrelax.molecule import Molecule
from diffrelax.results import page as pages
from diffrelax.results.page import Figure, Page, Row, Table, View

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'><!--"


@pytest.fixture
def ethanol() -> Molecule:
    return Molecule.from_smiles("CCO", name="ethanol")


def written(folder: Path, rows: list[Row], views: list[View], **settings: Any) -> ReadPage:
    table = Table("Molecules", "", [f"column {i}" for i, _ in enumerate(rows[0].cells)], rows)
    page = Page(
        **{
            "title": "Report",
            "subtitle": "",
            "facts": {"inputs": str(len(rows))},
            "sections": [table],
            "views": views,
            "made": {"command": "diffrelax run flow.yaml"},
            "elsewhere": "All are elsewhere.",
        }
        | settings
    )
    page.write(folder / "report.html")
    return ReadPage(folder / "report.html")


def test_names_and_reasons_are_text_whatever_they_hold(tmp_path: Path, ethanol: Molecule) -> None:
    plain = written(tmp_path, [Row(("a", "b"), 0)], [View("a", "b", ["b"], {"c": ethanol})])
    row, view = Row((EVIL, EVIL), 0, (EVIL,)), View(EVIL, EVIL, [EVIL], {EVIL: ethanol})
    evil = written(
        tmp_path, [row], [view], title=EVIL, subtitle=EVIL, facts={EVIL: EVIL}, made={EVIL: EVIL}
    )
    assert evil.tags == plain.tags
    assert evil.rows[1] == [EVIL, EVIL]
    assert json.loads(evil.attributes[1]["data-frames"] or "") == [EVIL]
    (shown,) = evil.views
    assert (shown["name"], shown["smiles"], shown["lines"]) == (EVIL, EVIL, [EVIL])
    assert evil.scripts[1:] == plain.scripts[1:]


def test_a_name_that_has_no_bytes_is_written_all_the_same(
    tmp_path: Path, ethanol: Molecule
) -> None:
    odd = "half \ud83d, null \0, turned \u202e"
    read = written(tmp_path, [Row((odd,), 0)], [View(odd, "", [], {"start": ethanol})])
    assert read.rows[1] == ["half \\ud83d, null \0, turned \u202e"]
    assert read.views[0]["name"] == odd


def test_a_page_lets_its_own_scripts_run_and_nothing_else(
    tmp_path: Path, ethanol: Molecule
) -> None:
    figure = Figure("A figure", b"\x89PNG")
    table = Table("Molecules", "", ["name"], [Row(("ethanol",), 0)])
    view = View("ethanol", "CCO", [], {"start": ethanol})
    read = written(tmp_path, list(table.rows), [view], sections=[figure, table])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()) for s in read.scripts[1:]]
    wanted = "script-src " + " ".join(f"'sha256-{found.decode()}'" for found in hashes)
    assert policy.split("; ")[-1] == wanted
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "Copyright (c) 2014, University of Pittsburgh" in read.text


def test_geometries_are_superposed_and_how_far_apart_they_are_is_told(
    tmp_path: Path, ethanol: Molecule
) -> None:
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    shaken = ethanol.positions + 0.1 * np.random.default_rng(0).normal(size=(9, 3))
    frames = {
        "start": ethanol.with_positions(shaken @ turn + 5.0),
        "turned": ethanol.with_positions(ethanol.positions @ turn),
        "minimum": ethanol,
    }
    (view,) = written(tmp_path, [Row(("ethanol",), 0)], [View("ethanol", "CCO", [], frames)]).views
    start, turned, minimum = view["frames"]
    assert turned["positions"] == pytest.approx(minimum["positions"], abs=1)
    assert start["positions"] == pytest.approx(minimum["positions"], abs=5000)
    assert (turned["apart"], minimum["apart"]) == (None, None)
    assert 0.05 < start["apart"] < 0.3
    assert view["symbols"].split() == list(ethanol.symbols)
    assert view["bonds"] == [list(bond) for bond in ethanol.bonds]
    ends = np.reshape(minimum["positions"], (-1, 3)) / 10_000
    lengths = np.linalg.norm(ends[1:] - ends[:-1], axis=1)
    wanted = np.linalg.norm(np.diff(ethanol.positions, axis=0), axis=1)
    assert lengths == pytest.approx(wanted, abs=2e-3)
    assert np.ptp(ends, axis=0).argmax() == 0  # the longest axis lies across


def test_atoms_in_another_order_are_not_superposed(tmp_path: Path, ethanol: Molecule) -> None:
    water = Molecule.from_smiles("O")
    frames = {"given": water, "minimum": ethanol}
    (view,) = written(tmp_path, [Row(("x",), 0)], [View("x", "", [], frames)]).views
    given, minimum = view["frames"]
    assert given["symbols"] == "O H H" and given["apart"] is None
    assert "symbols" not in minimum


def test_bonds_of_bare_atoms_are_seen(tmp_path: Path, ethanol: Molecule) -> None:
    bare = Molecule(ethanol.numbers, ethanol.positions)
    (view,) = written(tmp_path, [Row(("x",), 0)], [View("x", "", [], {"given": bare})]).views
    assert [bond[:2] for bond in view["bonds"]] == [list(bond[:2]) for bond in ethanol.bonds]


def test_a_large_page_is_cut_and_says_so(
    tmp_path: Path, ethanol: Molecule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_GEOMETRY_CHARACTERS", 2_000)
    monkeypatch.setattr(pages, "MOST_ROW_CHARACTERS", 50_000)
    views = [View(f"molecule {i}", "", [], {"start": ethanol}) for i in range(1000)]
    rows = [Row((view.name,), i, (), "bad" if i == 7 else "good") for i, view in enumerate(views)]
    read = written(tmp_path, rows, views)
    shown = len(read.rows) - 1
    assert 300 < shown < 500
    assert f"The first {shown} of 1,000 rows" in read.text
    names = [view["name"] for view in read.views]
    assert 2 < len(names) < 8
    assert names == ["molecule 7", *(f"molecule {i}" for i in range(len(names) - 1))]
    assert f"{len(names)} of 1,000 molecules can be looked at in 3D" in read.text
    assert read.text.count("All are elsewhere.") == 2
    linked = {
        row[0]: attributes.get("data-view")
        for row, attributes in zip(read.rows[1:], read.attributes[1:], strict=True)
    }
    assert {name: linked[name] for name in names} == {n: str(i) for i, n in enumerate(names)}
    assert linked["molecule 20"] is None


def test_columns_of_numbers_are_told_from_others() -> None:
    cells = [
        ("1.5", "2.0 [1.5, 2.0]", "63%", "–", "a", "1 to 2", "-3.1e-05"),
        ("−2", "–", "5% [0%, 7%]", "", "a longer text, for which there has to be room", "3", "1"),
    ]
    kinds = Table("", "", "abcdefg", [Row(row) for row in cells]).kinds
    assert kinds == ["number", "number", "number", "short", "wide", "short", "number"]


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, ethanol: Molecule, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, views = [Row(("ethanol",), 0)], [View("ethanol", "CCO", [], {"start": ethanol})]
    written(tmp_path, rows, views)
    before = (tmp_path / "report.html").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, rows, views, title="Another")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == before
