"""Relaxations by a program in place of PySCF."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffrelax.dft import DFTRelaxation, DFTSettings, relax_dft
from diffrelax.dft.optimization import relax_with
from diffrelax.levels.profiles import Profile
from diffrelax.molecule import Molecule
from diffrelax.results.documents import MinimisationDocument
from diffrelax.results.provenance import Provenance
from diffrelax.store import Store

needs_nwchem = pytest.mark.skipif(shutil.which("nwchem") is None, reason="needs NWChem")
needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")

NWCHEM = Profile(program="nwchem", method="hf", basis="3-21G")
XTB = Profile(program="xtb", method="gfn2-xtb")


@needs_nwchem
@pytest.mark.parametrize("smiles", ["CCO", "C[NH3+]"])
def test_nwchem_goes_the_way_of_pyscf(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    nwchem = relax_with(molecule, DFTSettings(calculator=NWCHEM))
    pyscf = relax_dft(molecule, xc="hf", basis="3-21G", density_fit=False)
    assert nwchem.converged and pyscf.converged and not nwchem.notes
    assert nwchem.gradient_calls == pyscf.gradient_calls <= 6
    assert nwchem.energy == pytest.approx(pyscf.energy, abs=1e-4)
    np.testing.assert_allclose(nwchem.trajectory, pyscf.trajectory, atol=2e-3)
    assert nwchem.scf_cycles is None
    unguided = relax_with(molecule, DFTSettings(calculator=NWCHEM, hessian="none"))
    assert unguided.gradient_calls > nwchem.gradient_calls


@needs_nwchem
def test_the_hessian_of_a_program_is_that_of_its_forces() -> None:
    water = Molecule.from_smiles("O")
    nwchem = relax_with(water, DFTSettings(calculator=NWCHEM, thermo="dft", fmax=0.005))
    pyscf = relax_dft(water, xc="hf", basis="3-21G", density_fit=False, thermo="dft", fmax=0.005)
    assert nwchem.thermochemistry is not None and pyscf.thermochemistry is not None
    np.testing.assert_allclose(
        nwchem.thermochemistry.frequencies, pyscf.thermochemistry.frequencies, atol=5
    )


def relax(store: Store | None = None, **settings: object) -> DFTRelaxation:
    start = Molecule.from_smiles("CCO")
    level = DFTSettings(calculator=XTB, fmax=0.01, hessian="none", **settings)
    return relax_with(start, level, store=store)


@needs_xtb
def test_a_relaxation_by_a_program_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path / "checkpoint")
    whole, begun = relax(), relax(store, max_steps=2)
    assert not begun.converged and begun.gradient_calls == 3
    resumed = relax(store)
    assert resumed.gradient_calls == whole.gradient_calls
    np.testing.assert_allclose(resumed.trajectory, whole.trajectory, atol=1e-4)


def counted(folder: Path) -> tuple[Profile, Path]:
    """Return a profile of xtb, and the file that has a line for each of its runs."""
    runs, program = folder / "runs", folder / "xtb"
    program.write_text(f'#!/bin/sh\necho >> {runs}\nexec {shutil.which("xtb")} "$@"\n')
    program.chmod(0o755)
    return XTB.model_copy(update={"command": str(program)}), runs


@needs_xtb
def test_what_others_have_checked_is_kept(tmp_path: Path) -> None:
    profile, runs = counted(tmp_path)

    def new_runs(**settings: str) -> int:
        runs.write_text("")
        level = DFTSettings(calculator=profile, **settings)
        relax_with(Molecule.from_smiles("O"), level, store=Store(tmp_path / "checkpoint"))
        return len(runs.read_text())

    assert new_runs(thermo="dft") > 2 * 9
    assert new_runs() == 0
    assert new_runs(thermo="dft") == 0
    assert new_runs(check_minimum="gfn2-xtb") == 2
    assert new_runs(thermo="dft") == new_runs(check_minimum="gfn2-xtb") == 0


@needs_xtb
def test_the_hessian_of_a_program_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    command, runs = counted(tmp_path)
    program = Path(command.command)
    settings = DFTSettings(calculator=command, thermo="dft")
    whole = relax_with(Molecule.from_smiles("O"), settings)
    n_runs = len(runs.read_text())
    assert n_runs == whole.gradient_calls + 2 * 9
    runs.write_text("")
    script = program.read_text()
    program.write_text(
        script.replace("exec", f'test "$(wc -l < {runs})" -gt 9 && kill $PPID\nexec')
    )
    life = (
        "import sys; from diffrelax.dft import relax_dft; from diffrelax.levels.profiles import *; "
        "relax_dft('O', calculator=Profile(program='xtb', method='gfn2-xtb', command=sys.argv[1]), "
        "thermo='dft', checkpoint=sys.argv[2])"
    )
    killed = subprocess.run([sys.executable, "-c", life, str(program), str(path)], check=False)
    assert killed.returncode == -signal.SIGTERM
    program.write_text(script)
    resumed = relax_with(Molecule.from_smiles("O"), settings, store=Store(path))
    assert len(runs.read_text()) in (n_runs, n_runs + 1)  # the one that was killed
    assert resumed.gradient_calls == whole.gradient_calls
    assert resumed.thermochemistry is not None and whole.thermochemistry is not None
    np.testing.assert_allclose(
        resumed.thermochemistry.frequencies, whole.thermochemistry.frequencies, atol=0.5
    )


@needs_xtb
def test_what_a_program_has_relaxed_can_be_stored() -> None:
    relaxation = relax()
    start = Molecule.from_smiles("CCO")
    document = MinimisationDocument.from_dft(start, relaxation, Provenance.here())
    assert document.scf_cycles is None and document.converged
    assert DFTSettings(**document.settings) == relaxation.settings
    assert document.settings["calculator"]["program"] == "xtb"


@needs_xtb
def test_files_of_a_program_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    program = tmp_path / "xtb"
    program.write_text(f'#!/bin/sh\npwd >> {seen}\nexec {shutil.which("xtb")} "$@"\n')
    program.chmod(0o755)
    relax_dft("O", calculator=XTB.model_copy(update={"command": str(program)}))
    folders = [Path(line) for line in seen.read_text().split()]
    assert folders and not any(folder.exists() for folder in folders)


def test_a_profile_is_given_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("program: nwchem\ncommand: no-such-program\nmethod: hf\nbasis: 3-21G\n")
    with pytest.raises(ValueError, match="'no-such-program' for nwchem was not found"):
        relax_dft("O", calculator=path)
