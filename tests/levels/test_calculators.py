from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from diffrelax.levels import LEVELS, get_calculator, relax_at_level
from diffrelax.molecule import Molecule


def test_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'am1'.*mmff94, uff, gfn-ff, gfn2-xtb, aimnet2, dft"):
        get_calculator("am1", Molecule.from_smiles("O"))


INSTALLED = {"gfn-ff": shutil.which("xtb"), "aimnet2": find_spec("Auto3D")}


@pytest.mark.parametrize("level", [level for level in LEVELS if INSTALLED.get(level, True)])
def test_every_level_gives_energy_and_forces(level: str) -> None:
    molecule = Molecule.from_smiles("O")
    settings = {"basis": "sto-3g"} if level == "dft" else {}
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator(level, molecule, **settings)
    assert np.isfinite(atoms.get_potential_energy())
    forces = atoms.get_forces()
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=0.02)
    assert level == "mmff94" or np.abs(forces).max() > 0.05


@pytest.mark.parametrize(
    ("level", "settings", "message"),
    [
        ("dft", {"optimizer": "bfgs"}, "level 'dft' does not accept these settings.*'optimizer'"),
        ("mmff94", {"xc": "pbe"}, "level 'mmff94' does not accept these settings.*'xc'"),
        ("gfn2-xtb", {"program": "xbt"}, "unknown program 'xbt' of level gfn2-xtb: tblite or xtb"),
    ],
)
def test_unknown_settings_are_named(level: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_calculator(level, Molecule.from_smiles("O"), **settings)


def test_a_level_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "howto" / "levels.md").read_text()
    (tmp_path / "my_levels.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    entries = re.search(r'"diffrelax.levels"\]\n(.*)', page)[1].replace('"', "")
    about = tmp_path / "my_levels-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-levels\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(f"[diffrelax.levels]\n{entries}\n")
    monkeypatch.syspath_prepend(tmp_path)
    molecule = Molecule.from_smiles("C[NH3+]")
    relaxed = relax_at_level(molecule, "gfn1-xtb", fmax=0.05)
    assert relaxed.converged and relaxed.n_calls > 1
    hessian = get_calculator("gfn1-xtb", molecule).hessian(molecule.to_atoms())
    assert hessian.shape == (24, 24)
    with pytest.raises(ValueError, match="unknown level of theory 'gfn0': did you mean gfn2-xtb"):
        get_calculator("gfn0", molecule)
