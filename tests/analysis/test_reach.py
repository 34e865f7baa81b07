"""What ``analysis/reach.py`` counts, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reach
import reach_cases
import reach_rows
from labels import Part

from diffrelax.benchmark.sample import in_basin
from diffrelax.data.minima import Minimum
from diffrelax.files.values import plain_values
from diffrelax.geometry import superpose
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.store import Store

AIMNET2 = reach_cases.LEVELS["aimnet2"]


def minimum(smiles: str, name: str = "one", **more: object) -> Minimum:
    molecule = Molecule.from_smiles(smiles)
    return Minimum(0, name, smiles, 4, 0, molecule.numbers, molecule.positions, **more)


def end(molecule: str = "C", **more: object) -> dict[str, object]:
    plain = {
        "molecule": molecule, "verdict": "relaxed", "reason": "", "bonds": 0.001, "angles": 0.002,
        "rmsd": 0.05, "turned": 5.0, "seconds": 0.1, "excess": None, "calls": None, "charge": 0,
        "kind": "given", "start_in_basin": True, "new_scaffold": False, "heavy": 12, "bound": 0.1,
        "seen": 7,
    }  # fmt: skip
    return plain | more


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [([6] * 9 + [1] * 20, False), ([6] * 10, True), ([6, 16, 1], True), ([6, 7, 8, 9, 1], False)],
)
def test_reach_is_size_or_an_element(numbers: list[int], counts: bool) -> None:
    assert reach_cases.beyond_qm9(np.array(numbers)) is counts


def test_every_molecule_comes_before_the_second_minimum_of_any() -> None:
    named = ("CCS", "a1"), ("CCS", "a2"), ("CS", "b1"), ("CCCS", "c1"), ("CCS", "a3"), ("CS", "b2")
    minima = [minimum(smiles, name) for smiles, name in named]
    order = [one.name for one in reach_cases.in_order(minima)]
    assert {*order[:3]} == {"a1", "b1", "c1"}
    assert {*order[3:5]} == {"a2", "b2"} and order[5] == "a3"
    backwards = [one.name for one in reach_cases.in_order(minima[::-1])]
    assert [name[0] for name in backwards] == [name[0] for name in order]


def test_a_scaffold_is_new_whatever_hangs_on_it() -> None:
    known = reach_cases.scaffolds_of(["Cc1ccccc1", "CCO", "C[C@H]1CCCNC1"])
    assert not reach_cases.is_new("Clc1ccccc1C(=O)O", known)
    assert not reach_cases.is_new("C[C@@H]1CCCNC1", known)
    assert not reach_cases.is_new("CCS", known)  # no rings, so no scaffold
    assert reach_cases.is_new("c1ccc2ccccc2c1", known)
    assert reach_cases.is_new("O=C1CCCNC1", known)


def test_a_start_that_came_with_the_minimum_is_taken(tmp_path: Path) -> None:
    one = minimum("CCCS")
    moved = one.positions + 0.05 * np.random.default_rng(0).normal(size=one.positions.shape)
    work = Store.in_folder(tmp_path)
    case = reach_cases.start_of(one._replace(start=moved), work)
    assert case and case.kind == "given" and case.start.start == "mmff94"
    np.testing.assert_array_equal(case.start.positions, moved)
    assert not list(work.each())


def test_other_starts_are_embedded_or_relaxed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Store.in_folder(tmp_path)
    embedded = reach_cases.start_of(minimum("C1CC1S"), work)
    assert embedded and embedded.kind == "embedded" and embedded.in_basin
    monkeypatch.setattr(reach_cases, "embed_in_basin", lambda _: None)
    relaxed = reach_cases.start_of(minimum("CCCS"), work)
    assert relaxed and relaxed.kind == "relaxed" and relaxed.in_basin
    monkeypatch.setattr(reach_cases, "made_start", None)
    again = reach_cases.start_of(minimum("CCCS"), work)
    assert again
    np.testing.assert_array_equal(again.start.positions, relaxed.start.positions)


def test_labels_of_a_release_start_from_their_seed(tmp_path: Path) -> None:
    one = minimum("CC(C)CS(=O)(=O)CCO", seed=7)
    for level, release in (("GFN2-xTB", "cheap"), (AIMNET2, "release")):
        part = Part({"level": level}, [one], np.zeros(1), np.zeros(1))
        part.save(tmp_path / release / "part-00.npz")
    labels = reach_cases.load_labels(tmp_path / "release", tmp_path / "cheap" / "part-00.npz")
    given = "validation", 9, tmp_path, labels, Store.in_folder(tmp_path / "units")
    (case,), without = reach_cases.find_cases("aimnet2", *given)
    assert not without
    assert [len(found) for found in reach_cases.find_cases("gfn2-xtb", *given)] == [1, 0]
    assert reach_cases.find_cases("aimnet2-small", *given) == ([], [])
    assert case.kind == "given" and case.in_basin is in_basin(case.start, case.reference)
    apart = superpose(case.start.positions, Molecule.from_smiles(one.smiles, seed=7).positions)[1]
    assert apart < 1e-4


def test_a_molecule_counts_once_however_many_minima_it_has() -> None:
    ends = [end("A", bonds=0.001)] * 9 + [end("B", bonds=0.003), end("C", bonds=0.005)]
    row = reach_rows.row_of(ends, ends)
    assert row["minima"] == 11 and row["molecules"] == 3
    assert row["bonds"].value == 0.003


def test_deviations_are_of_ends_in_the_basin_and_refusals_have_none() -> None:
    nothing = dict.fromkeys(("bonds", "angles", "rmsd", "turned"))
    ends = [
        end("A", rmsd=0.1),
        end("B", rmsd=0.9, turned=120.0, bonds=0.003, reason="beware"),
        end("C", verdict="refused", **nothing),
        end("D", verdict="fell_back", rmsd=0.2),
    ]
    row = reach_rows.row_of(ends, ends)
    assert row["verdicts"] == {"relaxed": 2, "refused": 1, "fell_back": 1}
    assert row["left_basin"] == 1 and row["cautions"] == 1 and row["molecules"] == 3
    assert row["rmsd"].value == pytest.approx(0.2)
    assert row["rmsd_inside"].value == pytest.approx(0.15)
    assert row["bonds"].value == 0.001


def test_energies_are_compared_on_the_same_molecules_in_whatever_basin() -> None:
    starts = [end(m, excess=e) for m, e in (("A", 1.0), ("B", 2.0), ("C", 3.0))]
    starts += [end("D", excess=None), end("E", excess=9.0)]
    ends = [end("A", excess=0.1, calls=4), end("B", excess=0.1, calls=5, turned=90.0),
            end("C", excess=0.2, calls=6), end("D", excess=5.0), end("E")]  # fmt: skip
    row = reach_rows.row_of(ends, starts)
    assert row["excess"].value == pytest.approx(0.1)
    assert row["ratio_of_medians"].value == pytest.approx(20)
    assert row["median_of_ratios"].value == pytest.approx(15)
    assert row["calls"].value == 5
    assert "excess" not in reach_rows.row_of([end()], [end()])


def test_a_method_that_refuses_is_not_faster_and_the_model_stands_beside_it_on_the_others() -> None:
    nothing = dict.fromkeys(("bonds", "angles", "rmsd", "turned"))
    refused = end("B", verdict="refused", seconds=0.0, **nothing)
    own = [end("A", bonds=0.0005), end("B", bonds=0.009)]
    row = reach_rows.row_of([end("A"), refused], own, own)
    assert row["milliseconds"] == pytest.approx(100)
    assert row["own_bonds"].value == 0.0005


def test_minima_without_a_start_are_counted(tmp_path: Path) -> None:
    whole, broken = minimum("CC(C)CS(=O)(=O)CCO", "whole"), minimum("CCCCS", "broken")
    wrong = broken._replace(seed=1, smiles="CCCS")  # embedded, it has other atoms
    labels = {AIMNET2: [whole, wrong]}
    given = "validation", 9, tmp_path, labels, Store.in_folder(tmp_path / "units")
    (case,), without = reach_cases.find_cases("aimnet2", *given)
    assert case.start.name == "whole" and not without
    assert reach_cases.find_cases("aimnet2-small", *given) == ([], ["broken"])


def test_minima_of_one_name_are_all_taken(tmp_path: Path) -> None:
    same = [minimum("CC(C)CS(=O)(=O)CCO", "conf") for _ in range(2)]
    cases, _ = reach_cases.find_cases(
        "aimnet2", "validation", 9, tmp_path, {AIMNET2: same}, Store.in_folder(tmp_path / "units")
    )
    assert len(cases) == 2


def test_a_start_says_which_force_field_made_it(tmp_path: Path) -> None:
    one = minimum("CCB(OC)OC")._replace(seed=42)  # for which MMFF94 has no parameters
    case = reach_cases.start_of(one, Store.in_folder(tmp_path))
    assert case and case.start.start == "uff"


def test_new_scaffolds_have_a_row_even_where_there_are_none() -> None:
    ends = [end("A", charge=1), end("B")]
    groups = reach_rows.groups_of(ends)
    assert list(groups) == ["all", "new scaffold", "ions", "neutral"]
    assert groups["new scaffold"].size == 0 and groups["ions"].tolist() == [0]
    table = reach_rows.rows_table(
        [reach_rows.row_of([], []) | {"group": "new scaffold", "method": "none"}]
    )
    assert "| new scaffold | none | 0 (0) | – |" in table


def test_bounds_are_judged_by_size_on_starts_in_their_basin_and_on_all() -> None:
    ends = [end(rmsd=0.05), end(rmsd=0.2), end(rmsd=9.0, start_in_basin=False), end(bound=None),
            end(heavy=35, rmsd=0.01)]  # fmt: skip
    lines = reach_rows.bounds_table(ends).splitlines()[2:]
    assert lines[0].split(" | ")[1:] == ["2", "0.125", "0.100", "50%", "3", "33% |"]
    assert lines[1].startswith("| 30 to 39 | 1 |")


def test_units_are_done_once(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [reach_cases.start_of(minimum(s, s), Store.in_folder(tmp_path / "units"))
             for s in ("CCCO", "C1CC1O", "CCS")]  # fmt: skip
    monkeypatch.setattr(reach, "PEERS", ("uff",))
    judge = reach.Judge(model, tmp_path, set())
    first = judge.source("qm9", found, 2)
    rows = {(row["group"], row["method"]): row for row in first["rows"]}
    assert rows["all", model.name]["verdicts"] == {"relaxed": 2, "refused": 1}
    assert rows["first 2, with peers", "uff"]["minima"] == 2
    assert rows["all", "relax-qm9-2"]["minima"] == 3
    assert rows["new scaffold", model.name]["molecules"] == 1
    assert "uff: 2 of 2" in (tmp_path / "progress.log").read_text()
    monkeypatch.setattr(reach.Judge, "unit", None)
    again = reach.Judge(model, tmp_path, set()).source("qm9", found, 2)
    assert plain_values(again) == plain_values(first)


def test_levels_of_other_lvpp_sets_are_aimed_at_too(
    several: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reach.LEVELS, "lvpp-b3lyp-def2svp", "r2SCAN-3c")
    monkeypatch.setitem(reach.LEVELS, "lvpp-bp86-def2svp", "B3LYP/6-31G(2df,p)")
    case = reach_cases.start_of(minimum("CCCO"), Store.in_folder(tmp_path / "units"))
    assert case
    judge = reach.Judge(several, tmp_path, set())

    def methods(source: str) -> list[str]:
        rows = judge.source(source, [case], 0)["rows"]
        return [row["method"] for row in rows if row["group"] == "all"]

    assert methods("lvpp-bp86-def2svp") == ["MMFF94", several.name, f"{several.name}, at r2SCAN-3c"]
    assert methods("flexisol") == ["MMFF94", several.name]
    assert methods("cascade") == ["MMFF94"]  # a level that it has not learned


def test_errors_are_told_by_the_rarest_atom() -> None:
    ends = [end(bonds=0.003), end(bonds=0.001), end(), end(bonds=None)]
    starts = [
        end(bonds=0.010, seen=0), end(bonds=0.0005, seen=0), end(start_in_basin=False, seen=60),
        end(),
    ]  # fmt: skip
    (row,) = reach_rows.rarity_table(ends, starts).splitlines()[2:]
    assert row == "| 0 | 2 | 5.25 | 2.00 | 2.00 | 2.00 | 1 |"
