"""Programs of the user's: real ones where they are installed, otherwise scripts in their place.

The outputs of ORCA, Gaussian and Q-Chem are written here in the form of their manuals, and the
inputs are read by ASE: the programs themselves have not been run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from unittest.mock import Mock, call

import ase.io
import ase.io.nwchem
import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed
from ase.units import Bohr, Hartree

from diffrelax.benchmark.speedup.units import dft_unit
from diffrelax.dft import DFTSettings
from diffrelax.dft.export import write_input
from diffrelax.dft.optimization import relax_with
from diffrelax.levels import get_calculator
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.levels.profiles import Profile
from diffrelax.levels.program_inputs import (
    gaussian_parameters,
    nwchem_parameters,
    qchem_parameters,
)
from diffrelax.levels.programs import ProgramCalculator
from diffrelax.levels.running import KilledError
from diffrelax.molecule import Molecule
from diffrelax.results.documents import FailureDocument
from diffrelax.store import Store

needs_nwchem = pytest.mark.skipif(shutil.which("nwchem") is None, reason="needs NWChem")
needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")

ENERGY = -75.123456789  # Eh
GRADIENT = [[0.01, -0.02, 0.03], [-0.01, 0.02, -0.03]]  # Eh/Bohr
HYDROXIDE = Molecule(np.array([8, 1]), np.array([[0, 0, 0.1], [0, 0.2, 1.0]]), charge=-1)
HYDROXYL = Molecule(HYDROXIDE.numbers, HYDROXIDE.positions, multiplicity=2)
NWCHEM = Profile(program="nwchem", method="hf", basis="3-21G")

ORCA_OUTPUT = f"""
Number of atoms                             ....      2
---------------------------------
CARTESIAN COORDINATES (ANGSTROEM)
---------------------------------
  O      0.000000    0.000000    0.100000
  H      0.000000    0.200000    1.000000

-------------------------   --------------------
FINAL SINGLE POINT ENERGY       {ENERGY}
-------------------------   --------------------
                             ****ORCA TERMINATED NORMALLY****
"""
ORCA_ENGRAD = f"""#
# Number of atoms
#
 2
#
# The current total energy in Eh
#
    {ENERGY}
#
# The current gradient in Eh/bohr
#
{os.linesep.join(f"{value:21.12f}" for row in GRADIENT for value in row)}
#
# The atomic numbers and current coordinates in Bohr
#
   8     0.0000000    0.0000000    0.1889726
   1     0.0000000    0.3779452    1.8897261
"""
GAUSSIAN_OUTPUT = f"""                          Input orientation:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          8           0        0.000000    0.000000    0.100000
      2          1           0        0.000000    0.200000    1.000000
 ---------------------------------------------------------------------
 SCF Done:  E(RB3LYP) =  {ENERGY}     A.U. after    9 cycles
 -------------------------------------------------------------------
 Center     Atomic                   Forces (Hartrees/Bohr)
 Number     Number              X              Y              Z
 -------------------------------------------------------------------
      1        8          -0.010000000    0.020000000   -0.030000000
      2        1           0.010000000   -0.020000000    0.030000000
 -------------------------------------------------------------------
 Normal termination of Gaussian 16
"""
QCHEM_OUTPUT = f""" SCF   energy in the final basis set =      {ENERGY}
 Total energy in the final basis set =      {ENERGY}
 Gradient of SCF Energy
            1           2
    1   0.0100000  -0.0100000
    2  -0.0200000   0.0200000
    3   0.0300000  -0.0300000
 Max gradient component =       3.000E-02
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def script(folder: Path, text: str, name: str = "program") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def in_place_of(program: str, folder: Path) -> str:
    """Return a script that keeps its input, and writes what the program would write."""
    (folder / "output").write_text(
        {"orca": ORCA_OUTPUT, "gaussian": GAUSSIAN_OUTPUT, "qchem": QCHEM_OUTPUT}[program]
    )
    (folder / "engrad").write_text(ORCA_ENGRAD)
    return script(
        folder,
        {
            "orca": f"cp $1 {folder}/input; cp {folder}/engrad orca.engrad; cat {folder}/output",
            "gaussian": f"cat > {folder}/input; cat {folder}/output",
            "qchem": f"cp $1 {folder}/input; cp {folder}/output $2",
        }[program],
    )


def read_charge(program: str, text: str) -> tuple[int, int]:
    pattern = r"\*xyz +(-?\d+) +(\d+)" if program == "orca" else r"(?m)^ *(-?\d+) +(\d+)$"
    (found,) = re.findall(pattern, text)
    return int(found[0]), int(found[1])


@pytest.mark.parametrize("program", ["orca", "gaussian", "qchem"])
@pytest.mark.parametrize("molecule", [HYDROXIDE, HYDROXYL], ids=["ion", "radical"])
def test_inputs_and_outputs_are_in_the_form_of_the_program(
    tmp_path: Path,
    program: str,
    molecule: Molecule,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
) -> None:
    keyword = {"orca": "! TightSCF", "gaussian": "scf=tight", "qchem": "SCF_CONVERGENCE 9"}[program]
    profile = Profile(
        program=program,
        command=in_place_of(program, tmp_path),
        method="B3LYP",
        basis="def2-SVP",
        keywords=(keyword,),
    )
    atoms, calculator = molecule.to_atoms(), ProgramCalculator(molecule, profile, folder)
    assert calculator.get_potential_energy(atoms) == pytest.approx(ENERGY * Hartree, abs=1e-8)
    forces = -np.array(GRADIENT) * Hartree / Bohr
    np.testing.assert_allclose(calculator.get_forces(atoms), forces, atol=1e-8)
    text = (tmp_path / "input").read_text()
    assert read_charge(program, text) == (molecule.charge, molecule.multiplicity)
    for word in ("b3lyp", "def2-svp", keyword.lower().split()[-1]):
        assert word in text.lower()
    if program != "qchem":  # ASE does not read its inputs
        form = {"orca": "orca-inp", "gaussian": "gaussian-in"}[program]
        if program == "orca":
            read = ase.io.orca.read_geom_orcainp(tmp_path / "input")
        else:
            read = ase.io.read(tmp_path / "input", format=form)
        np.testing.assert_allclose(read.positions, molecule.positions, atol=1e-6)
    assert capsys.readouterr().out == ""  # ASE prints a warning


@pytest.mark.parametrize(
    ("program", "solvent"),
    [("orca", r"CPCM\(water\)"), ("gaussian", r"scrf\(solvent=water\)")],
)
def test_solvents_are_in_the_input(
    tmp_path: Path, program: str, solvent: str, folder: Path
) -> None:
    profile = Profile(
        program=program,
        command=in_place_of(program, tmp_path),
        method="PBE0",
        basis="def2-SVP",
        solvent="water",
    )
    ProgramCalculator(HYDROXIDE, profile, folder).get_forces(HYDROXIDE.to_atoms())
    assert re.search(solvent, (tmp_path / "input").read_text())


def test_the_lines_of_gaussian_that_begin_with_a_percent_sign_are_above_its_route() -> None:
    keywords = ("%mem=8GB", "% NProc = 4", "int=ultrafine")
    profile = Profile(program="gaussian", method="PBE0", basis="def2SVP", keywords=keywords)
    text = StringIO()
    atoms = HYDROXIDE.to_atoms()
    ase.io.write(text, atoms, format="gaussian-in", **gaussian_parameters(profile, HYDROXIDE))
    above, route = text.getvalue().split("#P ")
    assert set(above.split()) >= {"%mem=8GB", "%nprocshared=4"}
    assert "int=ultrafine" in route
    assert "nproc" not in route.lower()


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("orca", "! B3LYP D3BJ def2-SVP"),
        ("gaussian", "EmpiricalDispersion=GD3BJ"),
        ("nwchem", "disp vdw 4"),
    ],
)
def test_dispersion_is_told_in_the_words_of_the_program(
    tmp_path: Path, program: str, written: str
) -> None:
    for method in ("B3LYP-D3BJ", "B3LYP-D3(BJ)"):
        profile = Profile(program=program, method=method, basis="def2-SVP")
        path, *_ = write_input(HYDROXIDE, tmp_path, "a", profile, None)
        assert written in path.read_text()
        assert method not in path.read_text()
    with pytest.raises(ValueError, match="has no dispersion correction d3: d3bj, d3zero"):
        Profile(program=program, method="PBE-D3", basis="def2-SVP")
    for name in ("wB97X-D3BJ", "ωB97X-D4", "revDSD-PBEP86-D4"):
        own = Profile(program="orca", method=name, basis="def2-SVP")
        assert f"! {name} " in write_input(HYDROXIDE, tmp_path, "b", own, None)[0].read_text()


@pytest.mark.parametrize(
    ("keywords", "reference"), [((), "rhf"), (("reference rks", "memory 2 GB"), "rks")]
)
def test_psi4_is_given_all_keywords(
    monkeypatch: pytest.MonkeyPatch, keywords: tuple[str, ...], reference: str
) -> None:
    psi4 = Mock(__spec__=ModuleSpec("psi4", None))
    monkeypatch.setitem(sys.modules, "psi4", psi4)
    lines = (*keywords, "SCF_TYPE pk", "dft_spherical_points = 590")
    profile = Profile(program="psi4", method="b3lyp", basis="def2-svp", keywords=lines)
    ProgramCalculator(HYDROXIDE, profile, Path())
    given = dict(item for call in psi4.set_options.call_args_list for item in call.args[0].items())
    assert given == {"reference": reference, "scf_type": "pk", "dft_spherical_points": 590}
    assert psi4.set_memory.call_args_list == [call("2 GB")] * bool(keywords)


def test_a_missing_program_is_named(folder: Path) -> None:
    profile = NWCHEM.model_copy(update={"command": "no-such-program"})
    with pytest.raises(
        ValueError, match="'no-such-program' for nwchem was not found: give its path"
    ):
        ProgramCalculator(HYDROXIDE, profile, folder)
    with pytest.raises(ValueError, match="psi4 is not installed"):
        ProgramCalculator(HYDROXIDE, Profile(program="psi4", method="hf", basis="3-21G"), folder)


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("echo ' ERROR: no such basis'; exit 2", r"orca failed \(ended with status 2\): ERROR: no"),
        ("kill -SEGV $$", r"orca failed \(SIGSEGV\): it did not say why"),
        ("echo nonsense", "orca gave no energy and forces that ASE can read"),
        (
            "sed 's/FINAL.*/& (Wavefunction not fully converged!)/' OUTPUT; exit 0",
            "the SCF of orca did not converge",
        ),
    ],
)
def test_a_program_that_fails_is_a_result(tmp_path: Path, ending: str, told: str) -> None:
    in_place_of("orca", tmp_path)
    ending = f"cp {tmp_path}/engrad orca.engrad; {ending.replace('OUTPUT', f'{tmp_path}/output')}"
    profile = Profile(program="orca", command=script(tmp_path, ending), method="HF")
    result = relax_with(HYDROXIDE, DFTSettings(calculator=profile, hessian="none"))
    assert not result.converged and result.gradient_calls == 0
    assert re.match(f"gradient call 1 failed: {told}", result.reason)


@pytest.mark.parametrize(
    ("program", "lost"), [("orca", "engrad"), ("gaussian", "output"), ("qchem", "output")]
)
def test_forces_of_the_last_geometry_are_not_read_again(
    tmp_path: Path, folder: Path, program: str, lost: str
) -> None:
    emptied = "" if program == "orca" else f"; touch {tmp_path}/{lost}"
    once = f'{in_place_of(program, tmp_path)} "$@"; rm -f {tmp_path}/{lost}{emptied}'
    profile = Profile(
        program=program, command=script(tmp_path, once, "once"), method="HF", basis="3-21G"
    )
    calculator, atoms = ProgramCalculator(HYDROXIDE, profile, folder), HYDROXIDE.to_atoms()
    calculator.get_forces(atoms)
    atoms.positions[0] += 0.1
    with pytest.raises(CalculationFailed, match="no energy and forces"):
        calculator.get_forces(atoms)


@pytest.mark.parametrize("end", ["kill -KILL $$", "kill -TERM $$", "exit 137"])
def test_a_program_that_is_killed_goes_on_from_the_calls_before(tmp_path: Path, end: str) -> None:
    first = f"test -e {tmp_path}/killed && {end}; touch {tmp_path}/killed"
    command = script(tmp_path, f"{first}; {in_place_of('orca', tmp_path)} $1", "killed-program")
    profile = Profile(program="orca", command=command, method="HF")
    settings = DFTSettings(calculator=profile, hessian="none", max_steps=1, optimizer="bfgs")
    store = Store(tmp_path / "dft.sqlite")
    with pytest.raises(KilledError, match=r"killed-program was killed .*ran out of memory"):
        relax_with(HYDROXIDE, settings, store=store)
    unit = dft_unit(HYDROXIDE, settings, store=store)
    assert isinstance(unit, FailureDocument) and "was killed" in unit.reason
    (tmp_path / "killed").unlink()
    again = relax_with(HYDROXIDE, settings, store=store)
    assert again.gradient_calls == 2
    assert (tmp_path / "killed").exists()


def test_a_full_disk_is_not_the_fault_of_the_molecule(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Profile(program="orca", command=in_place_of("orca", tmp_path), method="HF")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ase.io.orca.write_orca", full)
    with pytest.raises(OSError, match="No space left"):
        ProgramCalculator(HYDROXIDE, profile, folder).get_forces(HYDROXIDE.to_atoms())


def is_running(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("begun", ["sleep 60", "(trap '' TERM; exec sleep 60)"])
def test_an_interruption_ends_the_program_and_what_it_started(
    tmp_path: Path, folder: Path, begun: str
) -> None:
    text = f"{begun} & echo $$ $! > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pids; wait"
    profile = Profile(program="orca", command=script(tmp_path, text), method="HF")
    calculator, atoms = ProgramCalculator(HYDROXIDE, profile, folder), HYDROXIDE.to_atoms()

    def interrupt(*_: object) -> None:
        if (tmp_path / "pids").exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.siginterrupt(signal.SIGALRM, False)  # as RDKit leaves SIGINT after an embedding
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            calculator.get_forces(atoms)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pids = (tmp_path / "pids").read_text().split()
    for _ in range(100):
        if not any(map(is_running, pids)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{pids} are still running")


@needs_xtb
@pytest.mark.parametrize("solvent", ["", "water"])
def test_xtb_is_a_program_like_the_others(solvent: str, folder: Path) -> None:
    molecule = Molecule.from_smiles("C[NH3+]")
    profile = Profile(program="xtb", method="gfn2-xtb", solvent=solvent, keywords=("--acc 0.1",))
    atoms = molecule.to_atoms()
    energy = ProgramCalculator(molecule, profile, folder).get_potential_energy(atoms)
    alone = get_calculator("gfn2-xtb", molecule, program="xtb").get_potential_energy(atoms)
    if solvent:
        assert energy < alone - 2  # of a small cation in water
    else:
        assert energy == pytest.approx(alone, abs=1e-4)
    result = relax_with(molecule, DFTSettings(calculator=profile))
    assert result.converged and result.gradient_calls <= 5 and result.scf_cycles is None
    assert result.molecule.charge == 1


@pytest.mark.parametrize(
    ("basis", "told"),
    [
        ("crenbl_ecp", "made for core potentials"),
        ("aug-cc-pvdz-pp", "made for core potentials"),
        ("x2c-svpall", "contracted for relativistic Hamiltonians"),
        ("ano-rcc", "contracted for relativistic Hamiltonians"),
    ],
)
def test_basis_sets_whose_potentials_nwchem_is_not_given_are_refused(basis: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        nwchem_parameters(NWCHEM.model_copy(update={"basis": basis}), HYDROXIDE)
    named = {"basis": basis, "keywords": ("ecp\n  O library crenbl_ecp\nend",)}
    assert nwchem_parameters(NWCHEM.model_copy(update=named), HYDROXIDE)["basis"] == basis


def test_qchem_is_told_the_core_potentials_of_def2() -> None:
    profile = Profile(program="qchem", method="b3lyp", basis="def2-SVP")
    assert qchem_parameters(profile, Molecule.from_smiles("CI"))["ecp"] == "def2-ecp"
    assert "ecp" not in qchem_parameters(profile, Molecule.from_smiles("CBr"))
    named = profile.model_copy(update={"keywords": ("ECP fit-def2-ECP",)})
    assert "ecp" not in qchem_parameters(named, Molecule.from_smiles("CI"))


@needs_nwchem
@pytest.mark.parametrize(
    ("smiles", "basis"),
    [
        ("CO", "3-21G"),
        ("C[NH3+]", "3-21G"),
        ("[CH3]", "3-21G"),
        ("I", "def2-svp"),
        ("Cl", "lanl2dz_ecp"),
    ],
)
def test_nwchem_agrees_with_pyscf(smiles: str, basis: str, folder: Path) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    nwchem = ProgramCalculator(molecule, NWCHEM.model_copy(update={"basis": basis}), folder)
    level = {"xc": "hf", "basis": basis.removesuffix("_ecp"), "density_fit": False}
    pyscf = DensityFunctional(mean_field(molecule, **level))
    energy = pyscf.get_potential_energy(atoms)
    assert nwchem.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-5)
    np.testing.assert_allclose(nwchem.get_forces(atoms), pyscf.get_forces(atoms), atol=3e-3)


def test_lines_for_nwchem_are_written_as_they_are() -> None:
    lines = ("dft", "  grid fine", "end", "set int:acc_std 1e-12", "cosmo", "  minbem 3", "end")
    profile = NWCHEM.model_copy(update={"method": "b3lyp", "keywords": lines})
    text = StringIO()
    parameters = nwchem_parameters(profile, HYDROXIDE)
    ase.io.nwchem.write_nwchem_in(text, HYDROXIDE.to_atoms(), ["energy"], **parameters)
    assert "\n".join(lines) in text.getvalue() and "mult 1" in text.getvalue()


@needs_nwchem
def test_forces_of_nwchem_in_water_are_the_negative_gradient(folder: Path) -> None:
    profile = NWCHEM.model_copy(update={"method": "pbe", "solvent": "water"})
    calculator, atoms = ProgramCalculator(HYDROXIDE, profile, folder), HYDROXIDE.to_atoms()
    along = np.array([[0.0, 0.0, 0.0], [0.3, 0.5, 0.8]])
    force = float((calculator.get_forces(atoms) * along).sum())
    energies = []
    for step in (-0.01, 0.01):
        atoms.positions = HYDROXIDE.positions + step * along
        energies.append(calculator.get_potential_energy(atoms))
    assert force == pytest.approx(-(energies[1] - energies[0]) / 0.02, abs=0.03)


@needs_nwchem
def test_nwchem_goes_on_from_its_orbitals(folder: Path) -> None:
    profile = NWCHEM.model_copy(update={"method": "pbe"})
    calculator, atoms = ProgramCalculator(HYDROXIDE, profile, folder), HYDROXIDE.to_atoms()
    cycles, energies = [], []
    for _ in range(2):
        energies.append(calculator.get_potential_energy(atoms))
        cycles.append((folder / "nwchem.nwo").read_text().count("d= 0,ls="))
        atoms.positions[1] += 0.005
    assert cycles[1] < cycles[0]
    atoms.positions[1] -= 0.005
    (folder / "anew").mkdir()
    anew = ProgramCalculator(HYDROXIDE, profile, folder / "anew")
    assert anew.get_potential_energy(atoms) == pytest.approx(energies[1], abs=1e-4)


@needs_nwchem
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"basis": "no-such-basis"}, "failed opening basis file"),
        ({"method": "no-such-functional"}, "xc_input: invalid format"),
        ({"keywords": ("scf\nmaxiter 1\nend",)}, "scf energy failed"),
    ],
)
def test_nwchem_says_what_is_wrong(change: dict[str, object], told: str, folder: Path) -> None:
    calculator = ProgramCalculator(HYDROXIDE, NWCHEM.model_copy(update=change), folder)
    with pytest.raises(CalculationFailed, match=f"nwchem failed .*{told}"):
        calculator.get_forces(HYDROXIDE.to_atoms())


@needs_xtb
def test_a_solvent_that_a_program_does_not_know_is_named() -> None:
    profile = Profile(program="xtb", method="gfn2-xtb", solvent="nonsense")
    result = relax_with(Molecule.from_smiles("O"), DFTSettings(calculator=profile))
    assert "xtb failed: Could not setup defaults; " in result.reason
    assert "'nonsense' is not parametrized" in result.reason
