from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import ase.build
import numpy as np
import pytest
from ase.calculators.test import calculate_numerical_forces

from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.xtb_program import sweep_folders
from diffrelax.molecule import Molecule

needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")


def displaced(smiles: str) -> Molecule:
    molecule = Molecule.from_smiles(smiles)
    noise = np.random.default_rng(1).normal(0, 0.05, molecule.positions.shape)
    return molecule.with_positions(molecule.positions + noise)


@needs_xtb
@pytest.mark.parametrize("smiles", ["CC=O", "C[NH3+]"])
def test_gfn_ff_forces_are_the_negative_gradient(smiles: str) -> None:
    molecule = displaced(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("gfn-ff", molecule)
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.5
    numerical = calculate_numerical_forces(atoms, eps=1e-3)
    np.testing.assert_allclose(forces, numerical, atol=2e-3)


@needs_xtb
def test_atoms_that_share_a_coordinate_have_right_forces() -> None:
    """The program itself has wrong ones (https://github.com/grimme-lab/xtb/issues/986)."""
    atoms = ase.build.molecule("CH3OH")
    molecule = Molecule.from_atoms(atoms)
    forces = {}
    for program in ("tblite", "xtb"):
        atoms.calc = get_calculator("gfn2-xtb", molecule, program=program)
        forces[program] = atoms.get_forces()
    np.testing.assert_allclose(forces["xtb"], forces["tblite"], atol=2e-3)


@needs_xtb
@pytest.mark.parametrize("smiles", ["CC(=O)OC", "C[NH3+]", "[CH3]"])
def test_gfn2_xtb_of_the_program_is_that_of_tblite(smiles: str) -> None:
    molecule = displaced(smiles)
    atoms = molecule.to_atoms()
    ours = get_calculator("gfn2-xtb", molecule)
    program = get_calculator("gfn2-xtb", molecule, program="xtb")
    energy = ours.get_potential_energy(atoms)
    assert program.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-4)
    np.testing.assert_allclose(program.get_forces(atoms), ours.get_forces(atoms), atol=2e-3)


@needs_xtb
@pytest.mark.parametrize("fmax", [0.05, 0.01])
def test_both_optimisers_reach_the_same_minimum(fmax: float) -> None:
    molecule = displaced("CCO")
    by_program = relax_at_level(molecule, "gfn2-xtb", program="xtb", fmax=fmax)
    by_bfgs = relax_at_level(molecule, "gfn2-xtb", fmax=fmax)
    assert by_program.converged and by_program.fmax < fmax
    assert by_program.energy == pytest.approx(by_bfgs.energy, abs=2e-3)
    assert by_program.n_calls is not None and by_program.n_calls > 1


@needs_xtb
def test_gfn_ff_relaxes_and_says_when_it_does_not() -> None:
    molecule = displaced("CCO")
    relaxed = relax_at_level(molecule, "gfn-ff", fmax=0.01)
    assert relaxed.converged and relaxed.fmax < 0.01
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("gfn-ff", molecule)
    assert relaxed.energy < atoms.get_potential_energy() - 0.1
    asked_too_much = relax_at_level(molecule, "gfn-ff", fmax=1e-7)
    assert not asked_too_much.converged
    assert re.fullmatch(r"fmax 0\.00\d eV/Å after \d\d calls", asked_too_much.reason)


@needs_xtb
def test_runs_of_the_program_are_counted(tmp_path, monkeypatch) -> None:
    """Those of its optimiser, and the one that tells the forces at the end."""
    log, program = tmp_path / "log", tmp_path / "xtb"
    xtb = shutil.which("xtb")
    program.write_text(f'#!/bin/sh\n{xtb} "$@"\ntest -f xtbopt.log && cp xtbopt.log {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    relaxed = relax_at_level(displaced("O"), "gfn-ff")
    assert relaxed.n_calls == log.read_text().count("energy:") + 1


@needs_xtb
def test_failure_of_the_program_is_a_result() -> None:
    hydrogen = Molecule.from_smiles("[H][H]")
    atoms = hydrogen.to_atoms()
    atoms.positions[1] = atoms.positions[0] + [0, 0, 1e-7]
    calculator = get_calculator("gfn2-xtb", hydrogen, program="xtb")
    with pytest.raises(RuntimeError, match="xtb failed: scc_core: Diagonalization"):
        calculator.get_potential_energy(atoms)


def test_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(ValueError, match=r"gfn-ff needs the program xtb.*apt-get install xtb"):
        get_calculator("gfn-ff", Molecule.from_smiles("O"))


def test_element_beyond_radon_is_refused() -> None:
    positions = 2.0 * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    with pytest.raises(ValueError, match=r"gfn-ff has no parameters for F6U.*H to Rn"):
        get_calculator("gfn-ff", Molecule(np.array([92] + [9] * 6), positions))


@pytest.mark.parametrize(
    ("end", "told"), [("exit 139", "ended with status 139"), ("kill -SEGV $$", "killed by SIGSEGV")]
)
def test_a_program_that_dies_without_a_word_is_told_of(tmp_path, monkeypatch, end, told) -> None:
    program = tmp_path / "xtb"
    program.write_text(f"#!/bin/sh\n{end}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert told in relax_at_level(displaced("CCO"), "gfn-ff").reason


def test_a_program_that_dies_while_it_writes_is_told_of(tmp_path, monkeypatch) -> None:
    program = tmp_path / "xtb"
    program.write_text("#!/bin/sh\nprintf '9\\n energy\\nC 0 0 0\\n' > xtbopt.log\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    relaxed = relax_at_level(displaced("CCO"), "gfn-ff")
    assert relaxed.reason == "gfn-ff failed: xtb wrote an incomplete geometry"


def test_a_program_that_is_killed_is_no_result_whatever_it_has_written(
    tmp_path, monkeypatch
) -> None:
    program = tmp_path / "xtb"
    program.write_text("#!/bin/sh\nprintf '1\n energy\nHe 0 0 0\n' > xtbopt.log\nkill -KILL $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    relaxed = relax_at_level(displaced("CCO"), "gfn-ff")
    assert "xtb was killed (SIGKILL)" in relaxed.reason and np.isnan(relaxed.energy)


def test_folders_of_processes_that_were_killed_are_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda program: "/bin/true")
    old, young, other = (
        tmp_path / f"{name}-1" for name in ("diffrelax-xtb", "diffrelax-xtb-2", "x")
    )
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "start.xyz").touch()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    sweep_folders.cache_clear()
    calculator = get_calculator("gfn-ff", Molecule.from_smiles("O"))
    assert not old.exists() and young.exists() and other.exists()
    assert len(list(tmp_path.iterdir())) == 3
    del calculator
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("level", ["gfn-ff", "gfn2-xtb"])
def test_an_atom_is_relaxed_already(level: str) -> None:
    settings = {"program": "xtb"} if level == "gfn2-xtb" else {}
    relaxed = relax_at_level(Molecule.from_smiles("[He]"), level, **settings)
    assert relaxed.converged and relaxed.n_calls == 1


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "xtb"
    program.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/started\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("diffrelax.levels.xtb_program.LONGEST_RUN", 2)
    relaxed = relax_at_level(Molecule.from_smiles("O"), "gfn-ff")
    assert not relaxed.converged
    assert "xtb was stopped after 2 s" in relaxed.reason
    started = Path("/proc", (tmp_path / "started").read_text().strip(), "stat")
    deadline = time.monotonic() + 10
    while started.exists() and started.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
