from __future__ import annotations

import numpy as np
import pytest
from pyscf.dft.numint import NumInt

from diffrelax.levels import density_functional
from diffrelax.levels.density_functional import mean_field
from diffrelax.levels.fast_pyscf import quadrature
from diffrelax.levels.fast_pyscf.quadrature import BlockedNumInt
from diffrelax.molecule import Molecule

CHAIN, RADICAL = "CCCCCCF", "CCCC[CH2]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("smiles", "xc", "density_fit"),
    [
        (CHAIN, "svwn", True),
        (CHAIN, "b3lyp", True),
        (CHAIN, "b3lyp", False),
        (CHAIN, "r2scan", True),
        (RADICAL, "pbe", True),
        (RADICAL, "m06-2x", True),
        ("C=O", "wb97x-v", True),
        ("C=O", "r2scan-3c", True),
        ("[H][H]", "b97-3c", True),
    ],
)
def test_blocks_add_up_to_what_pyscf_integrates(
    smiles: str, xc: str, density_fit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"xc": xc, "grid_level": 0, "density_fit": density_fit}
    if not xc.endswith("-3c"):
        settings["basis"] = "sto-3g"
    molecule = Molecule.from_smiles(smiles)
    monkeypatch.setattr(quadrature, "POINTS", 300)
    blocked = mean_field(molecule, **settings)
    monkeypatch.setattr(density_functional, "integrate_in_blocks", lambda method: method)
    whole = mean_field(molecule, **settings)
    assert (type(blocked._numint), type(whole._numint)) == (BlockedNumInt, NumInt)

    assert blocked.kernel() == pytest.approx(whole.kernel(), abs=1e-8)
    gradients = [method.nuc_grad_method().kernel() for method in (blocked, whole)]
    np.testing.assert_allclose(*gradients, atol=1e-7)
    moved = blocked.mol.set_geom_(blocked.mol.atom_coords() * 1.02, unit="Bohr", inplace=False)
    energies = [method.as_scanner()(moved) for method in (blocked, whole)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-8)


def test_a_block_has_the_functions_that_matter_there_and_all_points_are_in_one() -> None:
    method = mean_field(Molecule.from_smiles("C" * 20), xc="pbe", basis="sto-3g", grid_level=0)
    method.grids.build()
    blocks = method._numint._blocks_of(method.mol, method.grids)
    assert sum(len(block.grid.coords) for block in blocks) == len(method.grids.coords)
    assert sum(block.grid.weights.sum() for block in blocks) == pytest.approx(
        method.grids.weights.sum()
    )
    n_functions = [len(block.functions) for block in blocks]
    assert np.median(n_functions) < 0.65 * method.mol.nao
    for block in blocks:
        assert block.mol.nao == len(block.functions)
        values = method.mol.eval_gto("GTOval", block.grid.coords)
        left_out = np.delete(values, block.functions, axis=1)
        assert np.abs(left_out).max(initial=0) < 1e-8
