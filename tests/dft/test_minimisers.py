from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator

from diffrelax.dft import DFTSettings
from diffrelax.dft.hessian import positive_hessian
from diffrelax.dft.internal import geometric, tric
from diffrelax.dft.minimisers import bfgs, criterion, sella
from diffrelax.dft.optimization import check_settings
from diffrelax.dft.recorder import Recorder
from diffrelax.levels import get_calculator
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule

MINIMISERS = {"bfgs": bfgs, "tric": tric, "geometric": geometric}
if find_spec("sella"):
    MINIMISERS["sella"] = sella


def run(
    optimizer: str, molecule: Molecule, with_hessian: bool, fmax: float = 0.03, max_steps: int = 200
) -> tuple[str, Recorder]:
    recorder = Recorder(molecule, get_calculator("gfn2-xtb", molecule))
    atoms = molecule.to_atoms()
    atoms.calc = recorder
    hessian = None
    if with_hessian:
        hessian = positive_hessian(gfn2_hessian(molecule), molecule.positions)
    return MINIMISERS[optimizer](atoms, hessian, fmax, max_steps), recorder


@pytest.mark.parametrize("smiles", ["CC1=C(F)N=NOC1=N", "CCCOC=O"])
def test_hessian_saves_most_calls_of_bfgs(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    reason, without = run("bfgs", molecule, with_hessian=False)
    assert reason == ""
    reason, with_hessian = run("bfgs", molecule, with_hessian=True)
    assert reason == ""
    assert 2 * len(with_hessian.calls) < len(without.calls)


def test_every_optimizer_takes_the_hessian(optimizer: str) -> None:
    molecule = Molecule.from_smiles("CC1=C(F)N=NOC1=N")
    calls = []
    for with_hessian in (False, True):
        reason, recorder = run(optimizer, molecule, with_hessian)
        assert reason == ""
        calls.append(len(recorder.calls))
    assert calls[1] < calls[0]


def test_hessian_is_not_changed() -> None:
    molecule = Molecule.from_smiles("CO")
    hessian = positive_hessian(gfn2_hessian(molecule), molecule.positions)
    before = hessian.copy()
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("gfn2-xtb", molecule)
    bfgs(atoms, hessian, 0.03, 100)
    np.testing.assert_array_equal(hessian, before)


@pytest.mark.parametrize("with_hessian", [True, False])
def test_all_find_the_same_minimum(with_hessian: bool) -> None:
    molecule = Molecule.from_smiles("CCO")
    ends = []
    for optimizer in MINIMISERS:
        reason, recorder = run(optimizer, molecule, with_hessian, fmax=0.002)
        assert reason == ""
        assert recorder.calls[-1].fmax < 0.002
        ends.append(recorder.calls[-1])
    distances = [end.molecule.to_atoms().get_all_distances() for end in ends]
    for end, lengths in zip(ends[1:], distances[1:], strict=True):
        assert end.energy == pytest.approx(ends[0].energy, abs=1e-4)
        np.testing.assert_allclose(lengths, distances[0], atol=5e-3)


@pytest.mark.parametrize("smiles", ["[H][H]", "C#C", "O=C=O", "C", "C#CC#N"])
def test_small_and_linear_molecules_converge(optimizer: str, smiles: str) -> None:
    reason, recorder = run(optimizer, Molecule.from_smiles(smiles), with_hessian=True)
    assert reason == ""
    assert recorder.calls[-1].fmax < 0.03


def test_steps_are_limited(optimizer: str) -> None:
    reason, recorder = run(optimizer, Molecule.from_smiles("CCO"), False, fmax=1e-3, max_steps=2)
    assert reason == "not converged in 2 steps"
    assert len(recorder.calls) == 3


def test_internal_coordinates_save_calls_where_bonds_turn() -> None:
    molecule = Molecule.from_smiles("[H]/N=C1\\OC[C@@]1(C)O")
    calls = {}
    for optimizer in ("bfgs", "tric"):
        reason, recorder = run(optimizer, molecule, with_hessian=True)
        assert reason == ""
        assert recorder.calls[-1].fmax < 0.03
        assert all(call.fmax >= 0.03 for call in recorder.calls[:-1])
        calls[optimizer] = len(recorder.calls)
    assert calls["tric"] < calls["bfgs"]


@pytest.mark.parametrize("smiles", ["CC(=O)OC", "CC#CC#N"])
def test_internal_coordinates_keep_the_hessian(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    calls = {}
    for optimizer in ("bfgs", "tric"):
        reason, recorder = run(optimizer, molecule, with_hessian=True, fmax=0.003)
        assert reason == ""
        calls[optimizer] = len(recorder.calls)
    assert calls["tric"] <= calls["bfgs"] + 2


@pytest.mark.parametrize("smiles", ["CCO", "O=C=O"])
def test_atoms_are_moved_in_place(optimizer: str, smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = Recorder(molecule, get_calculator("gfn2-xtb", molecule))
    assert MINIMISERS[optimizer](atoms, None, 0.03, 200) == ""
    np.testing.assert_array_equal(atoms.calc.calls[-1].molecule.positions, atoms.positions)


class NoisyEnergies(Calculator):
    """GFN2-xTB, its energies off by up to 0.05 meV."""

    implemented_properties = ("energy", "forces")

    def __init__(self, molecule: Molecule) -> None:
        super().__init__()
        self._exact = get_calculator("gfn2-xtb", molecule)

    def calculate(self, atoms: Atoms, *args: Any) -> None:
        super().calculate(atoms, *args)
        noise = 5e-5 * np.sin(1e3 * atoms.get_all_distances().sum())
        energy = self._exact.get_potential_energy(atoms) + noise
        self.results = {"energy": energy, "forces": self._exact.get_forces(atoms)}


@pytest.mark.parametrize("optimizer", ["tric", "bfgs"])
def test_noise_of_energies_does_not_shorten_steps(optimizer: str) -> None:
    molecule = Molecule.from_smiles("CCCOC=O")
    hessian = positive_hessian(gfn2_hessian(molecule), molecule.positions)
    calls = []
    for calculator in (get_calculator("gfn2-xtb", molecule), NoisyEnergies(molecule)):
        atoms = molecule.to_atoms()
        atoms.calc = recorder = Recorder(molecule, calculator)
        assert MINIMISERS[optimizer](atoms, hessian, 0.001, 200) == ""
        calls.append(len(recorder.calls))
    exact, noisy = calls
    assert noisy <= exact + 3


def test_geometric_is_silent_and_leaves_logging_alone(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from geometric.nifty import logger

    level, handlers = logger.level, list(logging.getLogger().handlers)
    run("geometric", Molecule.from_smiles("CO"), with_hessian=True)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert logger.level == level
    assert logging.getLogger().handlers == handlers


def test_geometric_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no coordinates")

    monkeypatch.setattr("diffrelax.dft.internal.Optimize", fail)
    reason, _ = run("geometric", Molecule.from_smiles("O"), with_hessian=False)
    assert reason == "geomeTRIC gave up: no coordinates"


@pytest.mark.skipif(not find_spec("sella"), reason="needs the extra [sella]")
def test_sella_that_stops_too_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sella.Sella.run", lambda *_, **__: True)
    reason, recorder = run("sella", Molecule.from_smiles("CCO"), with_hessian=True)
    largest = recorder.calls[-1].fmax
    assert reason == f"Sella stopped at {largest:.4f} eV/Å, above 0.03"


@pytest.mark.skipif(not find_spec("sella"), reason="needs the extra [sella]")
def test_sella_goes_on_until_no_force_on_an_atom_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sella import Sella

    monkeypatch.setattr(Sella, "run", lambda self, fmax, steps, _run=Sella.run: _run(
        self, 1.5 * fmax, steps))  # fmt: skip
    reason, recorder = run("sella", Molecule.from_smiles("CCO"), with_hessian=True)
    assert reason == ""
    assert any(0.03 < call.fmax < 0.045 for call in recorder.calls)
    assert recorder.calls[-1].fmax < 0.03


def test_missing_sella_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_settings(DFTSettings(optimizer="bfgs"))
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"pip install .diffrelax\[sella\]"):
        check_settings(DFTSettings(optimizer="sella"))


def test_criterion_states_the_thresholds_in_force() -> None:
    assert criterion("bfgs", 0.03) == "largest force on an atom < 0.03 eV/Å"
    assert "0.0003 and 0.00045 Eh/Bohr" in criterion("geometric", 0.03)
    assert "1.3e-05 and 1.9e-05 Eh/Bohr" in criterion("geometric", 0.001)
