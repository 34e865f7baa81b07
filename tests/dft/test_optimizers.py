from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from source_tree import ROOT

from diffrelax.dft import DFTSettings, optimizers, relax_dft
from diffrelax.dft.optimization import check_settings
from diffrelax.dft.optimizers import find_optimizer
from diffrelax.dft.optimizers.base import HessianOptimizer
from diffrelax.dft.recorder import Call, Recorder
from diffrelax.levels import get_calculator
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule


def run(
    optimizer: str, molecule: Molecule, with_hessian: bool, fmax: float = 0.03, max_steps: int = 200
) -> tuple[bool, Recorder]:
    recorder = Recorder(molecule, get_calculator("gfn2-xtb", molecule))
    atoms = molecule.to_atoms()
    atoms.calc = recorder
    hessian = gfn2_hessian(molecule) if with_hessian else "none"
    kind = find_optimizer(optimizer)
    return kind(atoms, logfile=None, hessian=hessian).run(fmax, max_steps), recorder


@pytest.mark.parametrize("smiles", ["CC1=C(F)N=NOC1=N", "CCCOC=O"])
def test_hessian_saves_most_calls_of_bfgs(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    converged, without = run("bfgs", molecule, with_hessian=False)
    assert converged
    converged, with_hessian = run("bfgs", molecule, with_hessian=True)
    assert converged
    assert 2 * len(with_hessian.calls) < len(without.calls)


def test_every_optimizer_takes_the_hessian(optimizer: str) -> None:
    molecule = Molecule.from_smiles("CC1=C(F)N=NOC1=N")
    calls = []
    for with_hessian in (False, True):
        converged, recorder = run(optimizer, molecule, with_hessian)
        assert converged
        calls.append(len(recorder.calls))
    assert calls[1] < calls[0]


def test_hessian_is_not_changed() -> None:
    molecule = Molecule.from_smiles("CO")
    hessian = gfn2_hessian(molecule)
    before = hessian.copy()
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("gfn2-xtb", molecule)
    find_optimizer("bfgs")(atoms, logfile=None, hessian=hessian).run(0.03, 100)
    np.testing.assert_array_equal(hessian, before)


@pytest.fixture(scope="module")
def minimum() -> Call:
    return run("bfgs", Molecule.from_smiles("CCO"), with_hessian=True, fmax=0.002)[1].calls[-1]


@pytest.mark.parametrize("with_hessian", [True, False])
def test_all_find_the_same_minimum(optimizer: str, with_hessian: bool, minimum: Call) -> None:
    converged, recorder = run(optimizer, Molecule.from_smiles("CCO"), with_hessian, fmax=0.002)
    end = recorder.calls[-1]
    assert converged and end.fmax < 0.002
    assert end.energy == pytest.approx(minimum.energy, abs=1e-4)
    lengths, known = (one.molecule.to_atoms().get_all_distances() for one in (end, minimum))
    np.testing.assert_allclose(lengths, known, atol=5e-3)


@pytest.mark.parametrize("smiles", ["[H][H]", "C#C", "O=C=O", "C", "C#CC#N"])
def test_small_and_linear_molecules_converge(optimizer: str, smiles: str) -> None:
    converged, recorder = run(optimizer, Molecule.from_smiles(smiles), with_hessian=True)
    assert converged
    assert recorder.calls[-1].fmax < 0.03


def test_steps_are_limited(optimizer: str) -> None:
    converged, recorder = run(optimizer, Molecule.from_smiles("CCO"), False, fmax=1e-3, max_steps=2)
    assert not converged
    assert len(recorder.calls) == 3


def test_internal_coordinates_save_calls_where_bonds_turn() -> None:
    molecule = Molecule.from_smiles("[H]/N=C1\\OC[C@@]1(C)O")
    calls = {}
    for optimizer in ("bfgs", "tric"):
        converged, recorder = run(optimizer, molecule, with_hessian=True)
        assert converged
        assert recorder.calls[-1].fmax < 0.03
        assert all(call.fmax >= 0.03 for call in recorder.calls[:-1])
        calls[optimizer] = len(recorder.calls)
    assert calls["tric"] < calls["bfgs"]


@pytest.mark.parametrize("smiles", ["CC(=O)OC", "CC#CC#N"])
def test_internal_coordinates_keep_the_hessian(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    calls = {}
    for optimizer in ("bfgs", "tric"):
        converged, recorder = run(optimizer, molecule, with_hessian=True, fmax=0.003)
        assert converged
        calls[optimizer] = len(recorder.calls)
    assert calls["tric"] <= calls["bfgs"] + 2


@pytest.mark.parametrize("smiles", ["CCO", "O=C=O"])
def test_atoms_are_moved_in_place(optimizer: str, smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = Recorder(molecule, get_calculator("gfn2-xtb", molecule))
    assert find_optimizer(optimizer)(atoms, logfile=None, hessian="none").run(0.03, 200)
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
    hessian = gfn2_hessian(molecule)
    calls = []
    for calculator in (get_calculator("gfn2-xtb", molecule), NoisyEnergies(molecule)):
        atoms = molecule.to_atoms()
        atoms.calc = recorder = Recorder(molecule, calculator)
        kind = find_optimizer(optimizer)
        assert kind(atoms, logfile=None, hessian=hessian).run(0.001, 200)
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


class Broken(HessianOptimizer):
    """An optimizer that cannot make a step."""

    def step(self) -> None:
        raise RuntimeError("no coordinates")


def test_an_optimizer_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(optimizers.OPTIMIZERS, "broken", f"{__name__}:Broken")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Broken=Broken))
    relaxation = relax_dft("O", xc="hf", basis="sto-3g", optimizer="broken", hessian="none")
    assert relaxation.reason == "the optimizer broken failed: no coordinates"
    assert relaxation.gradient_calls == 1


@pytest.mark.skipif(not find_spec("sella"), reason="needs the extra [sella]")
def test_sella_goes_on_until_no_force_on_an_atom_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sella.peswrapper import InternalPES

    monkeypatch.setattr(InternalPES, "converged", lambda self, fmax, *_: (True, fmax, 0.0))
    converged, recorder = run("sella", Molecule.from_smiles("CCO"), with_hessian=True)
    assert converged
    assert recorder.calls[-1].fmax < 0.03


def test_missing_sella_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_settings(DFTSettings(optimizer="bfgs"))
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda package: None)
    monkeypatch.delitem(sys.modules, "diffrelax.dft.optimizers.sella", raising=False)
    with pytest.raises(ValueError, match=r"pip install .diffrelax\[sella\]"):
        check_settings(DFTSettings(optimizer="sella"))


def test_criterion_states_the_thresholds_in_force() -> None:
    assert find_optimizer("bfgs").criterion(0.03) == "largest force on an atom < 0.03 eV/Å"
    geometric = find_optimizer("geometric")
    assert "0.0003 and 0.00045 Eh/Bohr" in geometric.criterion(0.03)
    assert "1.3e-05 and 1.9e-05 Eh/Bohr" in geometric.criterion(0.001)


def test_softer_modes_are_trusted_for_tighter_ends() -> None:
    found = [find_optimizer("bfgs").softest(fmax) for fmax in (0.3, 0.03, 0.015, 0.003)]
    assert found == pytest.approx([1, 1, 0.5, 0.25])
    assert find_optimizer("tric").softest(0.03) < 0.25


def test_an_optimizer_of_another_package_is_added_as_its_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/howto/optimizers.md").read_text(encoding="utf-8")
    files = dict(re.findall(r":caption: (\S+)\n\n(.*?)```", page, re.DOTALL))
    (tmp_path / "newton.py").write_text(files["newton.py"])
    project = tomllib.loads(files["pyproject.toml"])["project"]
    installed = tmp_path / "newton-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: newton\nVersion: 1.0\n")
    ((group, points),) = project["entry-points"].items()
    lines = (f"{name} = {path}" for name, path in points.items())
    (installed / "entry_points.txt").write_text("\n".join((f"[{group}]", *lines)))
    script = (
        "from diffrelax import relax_dft; "
        "found = relax_dft('O', xc='hf', basis='sto-3g', fmax=0.1, optimizer='newton'); "
        "print(found.converged, found.criterion)"
    )
    paths = os.pathsep.join(map(str, (tmp_path, *filter(None, sys.path))))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True largest force on an atom < 0.1 eV/Å\n"
    with pytest.raises(ValueError, match="'newton' is none of tric, geometric, bfgs, sella"):
        DFTSettings(optimizer="newton")
