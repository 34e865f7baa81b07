import numpy as np
import pytest
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

from diffrelax.levels import get_calculator
from diffrelax.levels.model_hessian import SOFTEST, model_hessian
from diffrelax.molecule import Molecule

SMILES = ("CCCOC=O", "CC1(C)CCC1", "O=C([O-])C#N", "CP(=O)(O)OBr", "N#N", "[Br-]")


@pytest.mark.parametrize("smiles", SMILES)
def test_is_symmetric_and_positive_and_turns_with_the_molecule(smiles):
    atoms = Molecule.from_smiles(smiles).to_atoms()
    hessian = model_hessian(atoms)
    assert np.allclose(hessian, hessian.T)
    assert np.linalg.eigvalsh(hessian).min() > 0.9 * SOFTEST
    turn = Rotation.from_rotvec([0.3, -1.1, 0.4]).as_matrix()
    atoms.positions = atoms.positions @ turn.T + [1, 2, 3]
    blocks = np.kron(np.eye(len(atoms)), turn)
    assert np.allclose(model_hessian(atoms), blocks @ hessian @ blocks.T, atol=1e-6)


def test_saves_calls_of_a_quasi_newton_relaxation():
    calls = {}
    for start in ("unit", "model"):
        molecule = Molecule.from_smiles("CCCOC=O")
        atoms = molecule.to_atoms()
        atoms.calc = get_calculator("gfn2-xtb", molecule)
        optimizer = BFGS(atoms, logfile=None)
        if start == "model":
            optimizer.H0 = model_hessian(atoms)
        assert optimizer.run(fmax=0.02, steps=200)
        calls[start] = optimizer.nsteps + 1
    assert calls["model"] < 0.6 * calls["unit"]
