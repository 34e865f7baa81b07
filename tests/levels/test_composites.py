from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.units import Bohr, Hartree
from pyscf import gto

from diffrelax.dft import DFTSettings
from diffrelax.levels.basis import choose_basis
from diffrelax.levels.composites import COMPOSITES
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.levels.functionals import read_functional
from diffrelax.molecule import Molecule

# Minimum of methacrolein at r2SCAN-3c, Å: https://github.com/grimme-lab/flexisol, MIT
METHACROLEIN = """
C   -1.097103  -0.764583  -0.193727
C    0.065776   0.146476   0.033512
C   -0.018134   1.452400   0.317775
C    1.415671  -0.447575  -0.064488
O    1.622672  -1.616310  -0.315758
H   -1.076111  -1.590016   0.524826
H   -1.030997  -1.221715  -1.186032
H   -2.045478  -0.231458  -0.103612
H   -0.971683   1.963367   0.406666
H    0.879891   2.045788   0.469753
H    2.255497   0.263625   0.111084
"""
HYDROGEN = Molecule.from_atoms(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))


@pytest.mark.parametrize("name", COMPOSITES)
def test_the_gradient_of_the_corrections_agrees_with_finite_differences(name: str) -> None:
    composite = COMPOSITES[name]
    mol = gto.M(atom="C 0 0 0; O 0 0 1.25; H 0.95 0 -0.6; H -0.9 0.1 -0.55", verbose=0)
    positions, step = mol.atom_coords(), 1e-4
    _, gradient = composite.corrections(mol)
    for atom, axis in ((0, 2), (1, 2), (3, 0)):
        shift = np.zeros_like(positions)
        shift[atom, axis] = step
        up, down = (
            composite.corrections(mol.set_geom_(positions + s, unit="Bohr", inplace=False))[0]
            for s in (shift, -shift)
        )
        assert gradient[atom, axis] == pytest.approx((up - down) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("solvent", ["", "78.4"])
def test_the_corrections_are_added_to_energy_forces_and_hessian(name: str, solvent: str) -> None:
    composite = COMPOSITES[name]
    atoms = HYDROGEN.to_atoms()
    whole = DensityFunctional(mean_field(HYDROGEN, xc=name, grid_level=1, solvent=solvent))
    bare = mean_field(HYDROGEN, xc="pbe", basis=composite.basis, grid_level=1, solvent=solvent)
    bare.xc = composite.xc
    bare = DensityFunctional(bare)
    energy, gradient = composite.corrections(bare.method.mol)

    added = whole.get_potential_energy(atoms) - bare.get_potential_energy(atoms)
    assert added == pytest.approx(energy * Hartree, abs=1e-6)
    added = whole.get_forces(atoms) - bare.get_forces(atoms)
    np.testing.assert_allclose(added, -gradient * Hartree / Bohr, atol=1e-5)
    if not solvent:
        curvature = (whole.hessian(atoms) - bare.hessian(atoms))[5, 5]
        ends = [
            composite.corrections(gto.M(atom=f"H 0 0 0; H 0 0 {z}", verbose=0))[1][1, 2]
            for z in (0.799, 0.801)
        ]
        expected = (ends[1] - ends[0]) * Hartree / Bohr / 0.002
        assert curvature == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["r2scan-3c", "R2SCAN-3C", "r2scan3c", "r2SCAN_3c", "r2SCAN-3_c"])
def test_spellings(name: str) -> None:
    assert read_functional(name).composite is COMPOSITES["r2scan-3c"]
    assert DFTSettings(xc=name).basis == "def2-mtzvpp"


def test_a_composite_method_takes_its_own_basis_set_and_no_other() -> None:
    settings = DFTSettings(xc=" r2SCAN-3c ")
    assert (settings.basis, str(settings.level)) == ("def2-mtzvpp", "r2SCAN-3c")
    assert choose_basis(read_functional("b97-3c")) == "def2-mTZVP"
    assert choose_basis(read_functional("r2scan-3c"), "DEF2-MTZVPP") == "def2-mTZVPP"
    message = "includes a basis set, def2-mTZVPP: leave 'def2-SVP'"
    with pytest.raises(ValueError, match=message):
        DFTSettings(xc="r2scan-3c", basis="def2-svp")
    with pytest.raises(ValueError, match=message):
        choose_basis(read_functional("r2scan-3c"), "def2-SVP")
    with pytest.raises(ValueError, match="use one of b97-3c, r2scan-3c"):
        DFTSettings(xc="pbeh-3c")


@pytest.mark.slow
def test_a_published_minimum_is_one_here_too() -> None:
    rows = [line.split() for line in METHACROLEIN.strip().splitlines()]
    atoms = ase.Atoms([row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float))
    method = mean_field(Molecule.from_atoms(atoms), xc="r2scan-3c")
    forces = DensityFunctional(method).get_forces(atoms)
    assert np.linalg.norm(forces, axis=1).max() < 0.015  # eV/Å


@pytest.mark.parametrize("name", COMPOSITES)
def test_the_core_of_iodine_is_left_to_the_potential_that_the_basis_is_made_for(name: str) -> None:
    """The bond of HI is 1.609 Å long (Huber and Herzberg 1979)."""
    forces = []
    for length in (1.58, 1.65):
        atoms = ase.Atoms("HI", [[0, 0, 0], [0, 0, length]])
        iodide = DensityFunctional(mean_field(Molecule.from_atoms(atoms), xc=name))
        assert iodide.method.mol.nelectron == 54 - 28
        forces.append(iodide.get_forces(atoms)[1, 2])
    assert forces[0] > 0 > forces[1]
