"""Which molecules the scripts about reach choose, and what they make of relaxations."""

from __future__ import annotations

import gzip
import json
import sys
from hashlib import sha256
from pathlib import Path

import aims
import dft_reach
import geom
import numpy as np
import pytest
import reach_cases
import speed_curve
from ase.optimize import BFGS
from candidates import Candidate, candidates
from rdkit import Chem
from rdkit.Chem.inchi import MolToInchiKey
from source_tree import OLDER

from diffrelax.clock import NO_TIME
from diffrelax.data.minima import remainder_of
from diffrelax.dft import DFTRelaxation, DFTSettings
from diffrelax.levels import get_calculator
from diffrelax.levels.distances import nearest_level
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.store import Store
from diffrelax.training.state import load_tensors, save_tensors


def key_of(smiles: str) -> str:
    return MolToInchiKey(Chem.MolFromSmiles(smiles))[:14]


def test_candidates_are_of_their_split_alone_and_ordered_by_hash(tmp_path: Path) -> None:
    plain = [f"{'C' * n}{tail}" for n in range(1, 25) for tail in ("O", "S", "[NH3+]", "Br", "P")]
    unfit = ["C[Se]C", "CC.O", "C[CH2]", "not a smiles", ""]
    path = tmp_path / "list.smi.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join([*plain, *unfit, *plain]) + "\n")
    found = candidates(path, "test", "salt")
    kept = [smiles for smiles in plain if remainder_of(key_of(smiles)) in (2, 3)]
    assert {one.key for one in found} == {key_of(smiles) for smiles in kept} and kept
    order = [sha256(f"salt{one.key}".encode()).hexdigest() for one in found]
    assert order == sorted(order) and len({*order}) == len(order)
    validation = candidates(path, "validation", "salt")
    assert {remainder_of(one.key) for one in validation} == {4}
    ions = [one for one in found if "+" in one.smiles]
    assert ions and all(one.charge == 1 and one.is_other and not one.is_plain for one in ions)


def test_dft_takes_the_first_of_each_size_and_kind_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dft_reach, "is_embedded", lambda smiles: smiles != "impossible")

    def one(name: str, heavy: int, charge: int = 0, *elements: int) -> Candidate:
        return Candidate(name, name, heavy, charge, frozenset({1, 6, *elements}))

    ordered = [
        one("impossible", 12),
        *(one(f"plain-{heavy}-{i}", heavy) for heavy in (12, 20, 30) for i in range(6)),
        *(one(f"sulfur-{heavy}-{i}", heavy, 0, 16) for heavy in (17, 18, 24) for i in range(2)),
        *(one(f"charged-{heavy}-{i}", heavy, -2) for heavy in (17, 18, 24) for i in range(6)),
        *(one(f"ion-{charge}-{i}", 8, charge) for charge in (-1, 1) for i in range(9)),
        one("boron", 14, 0, 5), one("large", 31), one("dianion", 8, -2), one("small", 8),
    ]  # fmt: skip
    found = dft_reach.chosen(ordered)
    names = [one.key for *_, one in found]
    assert len(found) == 51
    assert {*names[:8]} == {"plain-12-0", "plain-20-0", "plain-30-0", "sulfur-17-0",
                            "sulfur-18-0", "sulfur-24-0", "ion--1-0", "ion-1-0"}  # fmt: skip
    assert [name for name in names if name.endswith(("17-1", "17-0"))] == [
        "sulfur-17-0", "sulfur-17-1", "charged-17-0", "charged-17-1"]  # fmt: skip
    assert not {"impossible", "boron", "large", "dianion", "small"} & {*names}
    rows = [{"size": size} for size, *_ in found]
    counts = {name: sum(dft_reach.takes_part(row, name) for row in rows)
              for name in dft_reach.LEVELS}  # fmt: skip
    smaller = dict.fromkeys(dft_reach.SMALLER, 13)
    assert counts == {"r2scan-3c": 39, "b3lyp-def2svp": 39, "ions": 12} | smaller


def test_dft_of_reach_is_at_levels_that_are_learned() -> None:
    known = [*reach_cases.LEVELS.values(), "GFN2-xTB"]
    nearest = {name: nearest_level(one.level, known) for name, one in dft_reach.LEVELS.items()}
    assert {name: found.level for name, found in nearest.items()} == {
        "r2scan-3c": "r2SCAN-3c",
        "b3lyp-def2svp": "B3LYP/def2-SVP",
        "ions": "B3LYP/6-31G(2df,p)",
        "pbe0-d3bj-def2svp": "PBE0/def2-TZVP",
    }


def test_dft_of_reach_aims_at_the_level_of_each_report_and_goes_on(
    several: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relaxed: list[tuple[str, str]] = []

    def relax(start: Molecule, settings: DFTSettings, **_: object) -> DFTRelaxation:
        relaxed.append((start.name, str(settings.level)))
        times = dict.fromkeys(("hessian", "dft", "total"), NO_TIME)
        way = np.stack([start.positions, start.positions])
        forces = np.stack([np.ones_like(start.positions), np.zeros_like(start.positions)])
        return DFTRelaxation(start, True, "", (-1.0, -2.0), way, forces, 2, times, "", (), settings)

    monkeypatch.setattr("diffrelax.benchmark.speedup.units.relax_with", relax)
    monkeypatch.setattr("diffrelax.benchmark.speedup.units._model", lambda _: several)
    monkeypatch.setattr(dft_reach, "load_model", lambda _: several)
    (tmp_path / "molecules.csv").write_text(
        "name,smiles,size,kind,heavy_atoms,charge\n"
        "one,CCCO,12-17,plain,4,0\n"
        "two,C[NH3+],ion,cation,2,1\n"
    )
    dft_reach.main("several-1", tmp_path, [*dft_reach.LEVELS])
    assert {name for name, level in relaxed if level == "B3LYP/6-31G(2df,p)"} == {"two"}
    assert {name for name, level in relaxed if level != "B3LYP/6-31G(2df,p)"} == {"one"}
    arms = (tmp_path / "b3lyp-def2svp" / "arms.csv").read_text()
    assert all(start in arms for start in ("mmff94", "gfn2-xtb", "diffusion"))
    done = len(relaxed)
    dft_reach.main("several-1", tmp_path, [*dft_reach.LEVELS])
    assert len(relaxed) == done
    monkeypatch.setattr(aims, "load_model", lambda _: several)
    aims.main("several-1", tmp_path)
    assert len(relaxed) == done + 1  # to tighten the ion's end
    assert "| B3LYP/6-31G(2df,p) | 0.0 | 0.0 |" in (tmp_path / "aims.md").read_text()


BUTANE, TURNED = (Molecule.from_smiles("CCCC", seed=seed) for seed in (1, 2))


def unit(
    energy: float, calls: int, start: float = 1.0, reason: str = "", end: Molecule = BUTANE
) -> geom.Unit:
    return {"energy": energy, "start_energy": energy + start, "calls": calls, "reason": reason,
            "verdict": "relaxed", "end": end}  # fmt: skip


def test_calls_are_compared_where_both_reach_the_same_minimum() -> None:
    assert not same_minimum(BUTANE, TURNED)
    mmff94 = [unit(-5.0, 40), unit(-5.0, 60), unit(-5.0, 50), unit(-5.0, 70, reason="failed"),
              unit(-5.0, 30)]  # fmt: skip
    own = [unit(-5.001, 10, 0.1), unit(-5.2, 90, 0.1), unit(-5.0, 20, 0.1), unit(-5.0, 1, 0.1),
           unit(-5.001, 30, 0.1, end=TURNED)]  # fmt: skip
    row = geom.row_of(own, mmff94)
    assert (row["n"], row["converged"], row["same_minimum"]) == (5, 4, 2)
    assert row["calls"].value == 25 and row["calls_same"].value == 15
    assert row["ratio_same"].value == pytest.approx(3)
    assert row["lower"] == pytest.approx(1 / 4)
    assert row["excess"].value == pytest.approx(0.1 * 23.0605, rel=1e-4)
    assert np.isnan(geom.row_of([], mmff94)["lower"])


def test_a_model_has_its_earlier_weights_without_the_bounds_of_the_last(
    model: Model, tmp_path: Path
) -> None:
    tensors, about = load_tensors(Path(OLDER))
    for step in (512, 1024, model.step):
        path = tmp_path / "checkpoints" / f"step-{step}.safetensors"
        save_tensors(tensors, path, about | {"step": step})
    found = geom.checkpoints(tmp_path, model)
    assert [name for name, _ in found] == ["1024 steps", "512 steps"]
    for name, one in found:
        file = tmp_path / "checkpoints" / f"step-{name.split()[0]}.safetensors"
        assert one.sha256 == sha256(file.read_bytes()).hexdigest()
        assert one.config.relaxation == model.config.relaxation and not one.config.calibrations
        assert one.environments == model.environments


def test_the_paper_relaxes_by_bfgs_from_a_plain_first_hessian(tmp_path: Path) -> None:
    work = Store.in_folder(tmp_path)
    relaxed = geom.unit_of({"molecule": BUTANE}, work)
    atoms = BUTANE.to_atoms()
    atoms.calc = get_calculator("gfn2-xtb", BUTANE)
    with BFGS(atoms, logfile=None) as optimizer:
        optimizer.run(fmax=geom.FMAX)
    assert relaxed["calls"] == optimizer.nsteps + 1
    np.testing.assert_allclose(relaxed["end"].positions, atoms.positions, atol=1e-6)
    assert relaxed["start_energy"] > relaxed["energy"] and not relaxed["reason"]


def test_the_speed_of_a_model_is_told_with_its_name(
    several: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "speed_curve.json"
    first = {"method": "model", "molecules": "13 atoms", "n": 2}
    path.write_text(json.dumps({"model": several.sha256, "rows": [first]}))
    peer = ("aimnet2", "13 atoms", [BUTANE])
    monkeypatch.setattr(speed_curve, "plan", lambda _: [("model", "13 atoms", [BUTANE]), peer])
    monkeypatch.setattr(speed_curve, "measure", lambda *_: {"n": 1})
    monkeypatch.setattr(speed_curve, "load_model", lambda _: several)
    monkeypatch.setattr(speed_curve, "table", str)
    monkeypatch.setattr(sys, "argv", ["speed_curve.py", "x", str(tmp_path), "--list", "y"])
    speed_curve.main()
    record = json.loads(path.read_text())
    assert (record["model"], record["sha256"]) == (several.name, several.sha256)
    assert record["rows"] == [first, {"method": "aimnet2", "molecules": "13 atoms", "n": 1}]
    assert record["threads"] == 2 and record["hardware"]


def test_chains_of_alanine_have_ten_atoms_a_residue_and_are_relaxed() -> None:
    for residues in (1, 2, 5):
        (molecule,) = speed_curve.chain(residues)
        assert molecule.n_atoms == 10 * residues + 3
        forces = get_calculator("mmff94", molecule).get_forces(molecule.to_atoms())
        assert np.abs(forces).max() < 0.05
