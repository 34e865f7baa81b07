"""Inputs for other programs, read back by ASE, and by NWChem itself where it is installed."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.data import atomic_masses
from ase.io.gaussian import read_gaussian_in
from ase.io.orca import read_geom_orcainp
from typer.testing import CliRunner

from diffrelax.cli import app, report
from diffrelax.dft import DFTSettings
from diffrelax.dft.descent import start_hessian
from diffrelax.dft.export import safe_stem, write_input
from diffrelax.levels.profiles import Profile, Program
from diffrelax.molecule import Molecule

needs_nwchem = pytest.mark.skipif(shutil.which("nwchem") is None, reason="needs NWChem")

ATOMIC_UNIT = 97.1736  # eV/Å², of a second derivative
BOHR = 0.529177  # Å


def exported(
    program: Program, folder: Path, molecule: Molecule, *, guided: bool = True
) -> tuple[np.ndarray, str]:
    """Write an input; return the Hessian, in atomic units, and the text."""
    profile = Profile(program=program, method="hf", basis="3-21G")
    hessian, _ = start_hessian(molecule, DFTSettings(calculator=profile))
    assert hessian is not None
    path, *_ = write_input(molecule, folder, "it", profile, hessian if guided else None)
    return hessian / ATOMIC_UNIT, path.read_text()


def from_triangle(values: np.ndarray) -> np.ndarray:
    size = round((2 * len(values)) ** 0.5 - 0.5)
    square = np.zeros((size, size))
    square[np.tril_indices(size)] = values
    return square + np.tril(square, -1).T


@pytest.mark.parametrize("smiles", ["CCO", "C[NH3+]", "[CH3]"])
def test_orca_gets_geometry_and_hessian(tmp_path: Path, smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    hessian, text = exported("orca", tmp_path, molecule)
    assert text.startswith("! hf 3-21G Opt")
    assert re.search(r'%geom\s+InHess Read\s+InHessName "it.hess"\s+end', text)
    assert f"*xyz {molecule.charge} {molecule.multiplicity}" in text
    read = read_geom_orcainp(tmp_path / "it.inp")
    np.testing.assert_allclose(read.positions, molecule.positions, atol=1e-9)
    parts = dict(re.findall(r"\$(\w+)\n([^$]*)", (tmp_path / "it.hess").read_text()))
    size, *lines = parts["hessian"].strip().splitlines()
    columns: dict[int, list[float]] = {}
    for line in lines:
        if "." not in line:
            heads = [int(word) for word in line.split()]
            continue
        row, *values = line.split()
        for head, value in zip(heads, values, strict=True):
            columns.setdefault(head, []).append(float(value))
            assert len(columns[head]) == int(row) + 1
    assert len(columns) == int(size) == 3 * molecule.n_atoms
    np.testing.assert_allclose(np.array(list(columns.values())).T, hessian, atol=1e-5)
    count, *atoms = parts["atoms"].strip().splitlines()
    assert int(count) == molecule.n_atoms
    for line, number, place in zip(atoms, molecule.numbers, molecule.positions, strict=True):
        symbol, mass, *xyz = line.split()
        assert symbol == ase.Atom(number).symbol
        assert float(mass) == pytest.approx(atomic_masses[number], abs=1e-3)
        np.testing.assert_allclose(BOHR * np.array(xyz, dtype=float), place, atol=1e-4)


@pytest.mark.parametrize("smiles", ["CCO", "C[NH3+]", "[CH3]"])
def test_gaussian_gets_geometry_and_force_constants(tmp_path: Path, smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    hessian, text = exported("gaussian", tmp_path, molecule)
    read = read_gaussian_in((tmp_path / "it.gjf").open(), attach_calculator=True)
    np.testing.assert_allclose(read.positions, molecule.positions, atol=1e-9)
    given = read.calc.parameters
    assert (given["charge"], given["mult"]) == (molecule.charge, molecule.multiplicity)
    assert (given["method"], given["basis"]) == ("hf", "3-21g")
    assert given["opt"] == "fccards" and "nosymm" in given
    sections = text.split("\n\n")  # route, title, molecule, force constants
    assert len(sections[2].splitlines()) == 1 + molecule.n_atoms
    energy, *lines = sections[3].splitlines()
    assert re.fullmatch(r" *0\.0{16}D\+00", energy) and len(energy) == 24
    fields = [line[i : i + 12] for line in lines for i in range(0, len(line), 12)]
    assert max(map(len, lines)) == 72 and {len(field) for field in fields} == {12}
    n_forces = 3 * molecule.n_atoms
    begun = -(-n_forces // 6)  # lines of forces
    assert all(float(field) == 0 for line in lines[:begun] for field in line.split())
    values = np.array(fields[n_forces:], dtype=float)
    np.testing.assert_allclose(from_triangle(values), hessian, atol=1e-5)


@pytest.mark.parametrize("smiles", ["CCO", "C[NH3+]", "[CH3]"])
def test_nwchem_gets_geometry_and_hessian(tmp_path: Path, smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    hessian, text = exported("nwchem", tmp_path, molecule)
    read = ase.io.read(tmp_path / "it.nw", format="nwchem-in")
    np.testing.assert_allclose(read.positions, molecule.positions, atol=1e-9)
    assert f"charge {molecule.charge}" in text
    assert f"nopen {molecule.multiplicity - 1}" in text
    assert re.search(r"driver\s+inhess 2\s+end", text) and "task scf optimize" in text
    assert "dir" not in text  # nothing of this machine
    values = (tmp_path / "it.hess").read_text().replace("D", "E").split()
    np.testing.assert_allclose(from_triangle(np.array(values, dtype=float)), hessian, atol=1e-5)


@needs_nwchem
def test_nwchem_starts_from_the_hessian(tmp_path: Path) -> None:
    molecule, steps = Molecule.from_smiles("CO"), []
    for guided in (True, False):
        folder = tmp_path / str(guided)
        folder.mkdir()
        exported("nwchem", folder, molecule, guided=guided)
        done = subprocess.run(
            ["nwchem", "it.nw"], cwd=folder, capture_output=True, text=True, check=True
        )
        assert "Optimization converged" in done.stdout
        assert ("Using Cartesian Hessian from previous" in done.stdout) is guided
        steps.append(len(set(re.findall(r"(?m)^@ +(\d+) ", done.stdout))))
    assert steps[0] < steps[1]


@pytest.mark.parametrize("program", ["orca", "gaussian", "nwchem"])
def test_without_a_hessian_the_program_is_left_to_guess(tmp_path: Path, program: Program) -> None:
    _, text = exported(program, tmp_path, Molecule.from_smiles("O"), guided=False)
    assert not re.search("(?i)hess|fccards", text) and re.search("(?i)opt", text)
    assert len(list(tmp_path.iterdir())) == 1


def test_names_are_safe_and_different() -> None:
    taken: set[str] = set()
    names = ["../a/b", "../a/b", "A_B", "C/C=C\\C", "", "%", "x" * 200]
    stems = [safe_stem(name, taken) for name in names]
    assert stems[:4] == ["a_b", "a_b_2", "A_B_3", "C_C_C_C"]
    assert stems[4:6] == ["molecule", "molecule_2"]
    assert len(stems[6]) == 60


def export(folder: Path, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    command = ["export", *arguments, "--to", "orca", "-o", str(folder), "--json"]
    done = CliRunner().invoke(app, command)
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines() if line[0] == "{"]


def test_every_molecule_is_accounted_for(tmp_path: Path) -> None:
    status, rows = export(tmp_path / "new" / "folder", "CCO", "C[Se]C", "nonsense")
    assert status == 1
    assert [row["verdict"] for row in rows] == ["relaxed", "refused", "failed"]
    assert [row["files"] for row in rows] == [
        ["CCO.inp", "CCO.hess"],
        ["C_Se_C.inp", "C_Se_C.hess"],
        [],
    ]
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {
        "CCO.inp", "CCO.hess", "C_Se_C.inp", "C_Se_C.hess", "molecules.csv",
    }  # fmt: skip
    with (folder / "molecules.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["files"] for row in table] == ["CCO.inp CCO.hess", "C_Se_C.inp C_Se_C.hess", ""]
    relaxed = read_geom_orcainp(folder / "CCO.inp")
    np.testing.assert_allclose(relaxed.positions, rows[0]["positions"], atol=1e-9)


def test_a_composite_method_brings_its_basis(tmp_path: Path) -> None:
    export(tmp_path / "own", "C", "--xc", "r2SCAN-3c")
    assert (tmp_path / "own" / "C.inp").read_text().startswith("! r2SCAN-3c Opt")
    export(tmp_path / "default", "C")
    assert (tmp_path / "default" / "C.inp").read_text().startswith("! B3LYP 6-31G(2df,p) Opt")


@pytest.mark.parametrize(
    ("program", "xc", "line"),
    [
        ("orca", "PBE0/def2-SVP", "! PBE0 def2-SVP Opt"),
        ("orca", "uM06-2X-D3(0)/def2tzvp", "! M062X D3ZERO def2-TZVP Opt"),
        ("orca", "B3LYP/G D4 6-31G(d)", "! B3LYP/G D4 6-31G* Opt"),
        ("orca", "wB97M-D3/def2-TZVPP", "! wB97M-D3BJ def2-TZVPP Opt"),
        ("gaussian", "wB97X-D/6-31G*", "#P wB97XD/6-31G*"),
        ("gaussian", "PBE-D3BJ/def2-TZVP", "#P PBEPBE/def2TZVP"),
        ("gaussian", "PBE-D3BJ/def2-TZVP", "EmpiricalDispersion=GD3BJ"),
        ("nwchem", "BP86-D3(BJ)/6-31G(d)", "   xc becke88 perdew86"),
        ("nwchem", "BP86-D3(BJ)/6-31G(d)", "   disp vdw 4"),
        ("nwchem", "BP86-D3(BJ)/6-31G(d)", "  * library 6-31G*"),
    ],
)
def test_a_level_is_written_in_the_words_of_the_program(
    tmp_path: Path, program: str, xc: str, line: str
) -> None:
    arguments = ["O", "--no-relax", "--hessian", "none", "--xc", xc, "-o", str(tmp_path)]
    done = CliRunner().invoke(app, ["export", *arguments, "--to", program])
    assert done.exit_code == 0 and "warning" not in done.stderr
    (path,) = (path for path in tmp_path.iterdir() if path.suffix != ".csv")
    lines = path.read_text().splitlines()
    assert any(one.strip().startswith(line.strip()) for one in lines), lines


@pytest.mark.parametrize(
    ("xc", "message"),
    [
        ("B3LPY/def2-SVP", "warning: unknown method 'B3LPY': did you mean B3LYP?"),
        ("B3LYP/def2-spv", "warning: unknown basis set 'def2-spv': did you mean def2-SVP"),
        ("M05/def2-SVP", "warning: M05 is not known to be a keyword of orca"),
        ("B3LYP-D3/def2-SVP", "write B3LYP-D3(BJ), or B3LYP-D3(0) for zero damping"),
    ],
)
def test_doubtful_names_are_told(tmp_path: Path, xc: str, message: str) -> None:
    arguments = ["O", "--no-relax", "--hessian", "none", "--xc", xc, "-o", str(tmp_path)]
    done = CliRunner().invoke(app, ["export", *arguments, "--to", "orca"])
    assert message in done.stderr + str(done.exception)


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("orca", ["%pal nprocs 4 end", "%maxcore 1500"]),
        ("gaussian", ["%mem=8000MB", "%nprocshared=4"]),
        ("nwchem", ["memory total 2000 mb"]),
    ],
)
def test_inputs_ask_for_processors_and_memory(
    tmp_path: Path, program: str, lines: list[str]
) -> None:
    arguments = ["O", "--no-relax", "--hessian", "none", "--processors", "4", "--memory", "8"]
    CliRunner().invoke(app, ["export", *arguments, "--to", program, "-o", str(tmp_path)])
    (path,) = (path for path in tmp_path.iterdir() if path.suffix != ".csv")
    assert set(lines) <= {line.strip() for line in path.read_text().splitlines()}


def test_the_title_of_gaussian_is_the_molecule(tmp_path: Path) -> None:
    _, text = exported(
        "gaussian", tmp_path, replace(Molecule.from_smiles("C[C@H](F)Cl"), name="chiral_one")
    )
    assert text.split("\n\n")[1] == "chiral one, C2H4ClF"


def test_geometries_may_be_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 0 0 1.1\nH 0 1.1 0\n")
    status, (row,) = export(tmp_path / "inputs", str(path), "--no-relax")
    assert (status, row["verdict"], row["reason"]) == (0, "as given", "")
    read = read_geom_orcainp(next((tmp_path / "inputs").glob("*.inp")))
    np.testing.assert_allclose(read.get_distance(0, 1), 1.1, atol=1e-9)


def test_the_table_does_not_replace_an_input(tmp_path: Path) -> None:
    path = tmp_path / "molecules.csv"
    path.write_text("smiles\nC\n")
    command = ["export", str(path), "--no-relax", "--hessian", "none", "--to", "orca"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path), "--overwrite"])
    assert "is an input: choose another output" in str(done.exception)
    assert path.read_text() == "smiles\nC\n"


def test_each_line_of_the_table_is_there_when_its_molecule_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(row: dict[str, object], *_: object) -> None:
        if row["name"] == "second":
            raise KeyboardInterrupt

    monkeypatch.setattr(report, "show_row", interrupt)
    arguments = ("--no-relax", "--hessian", "none")
    status, _ = export(tmp_path, "C first", "CC second", "CCC third", *arguments)
    lines = (tmp_path / "molecules.csv").read_text().splitlines()
    assert status == 130 and [line.split(",")[0] for line in lines] == ["name", "first", "second"]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "CCO.inp").write_text("mine")
    done = CliRunner().invoke(app, ["export", "CCO", "--to", "orca", "-o", str(tmp_path)])
    assert isinstance(done.exception, ValueError)
    assert "is not empty: choose another, or start again with --overwrite" in str(done.exception)
    assert (tmp_path / "CCO.inp").read_text() == "mine"


def test_a_hessian_that_is_not_installed_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda _: None)
    command = ["export", "CO", "--to", "orca", "--hessian", "aimnet2", "-o", str(tmp_path / "new")]
    done = CliRunner().invoke(app, command)
    assert "the weights of aimnet2 are missing" in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_no_hessian_is_made_where_none_is_asked_for() -> None:
    profile = Profile(program="orca", method="pbe", basis="def2-svp")
    settings = DFTSettings(calculator=profile, hessian="none")
    assert start_hessian(Molecule.from_smiles("CO"), settings) == (None, ())


def test_an_element_without_a_hessian_is_told(tmp_path: Path) -> None:
    path = tmp_path / "uranium.xyz"
    path.write_text("2\n\nU 0 0 0\nH 0 0 2.0\n")
    status, (row,) = export(tmp_path / "inputs", str(path), "--no-relax")
    assert status == 0 and "no gfn2-xtb Hessian, the optimizer's own guess" in str(row["reason"])
    assert len(row["files"]) == 1
