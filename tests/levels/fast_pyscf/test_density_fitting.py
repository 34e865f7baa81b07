from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyscf.df import DF
from pyscf.df.grad import rhf

from diffrelax.levels.density_functional import mean_field
from diffrelax.levels.fast_pyscf import density_fitting
from diffrelax.levels.fast_pyscf.density_fitting import can_be_fitted, gradient_of_repulsion
from diffrelax.molecule import Molecule

ETHANOL, RADICAL = "CCO", "CC[CH2]"


def converged(smiles: str, xc: str, **settings: Any) -> Any:
    method = mean_field(
        Molecule.from_smiles(smiles), xc=xc, basis="6-31g", grid_level=0, **settings
    )
    method.kernel()
    return method


@pytest.mark.parametrize("omega", [None, 0.3])
@pytest.mark.parametrize("smiles", [ETHANOL, RADICAL, "[H]"])
def test_exchange_and_repulsion_are_those_of_pyscf(
    smiles: str, omega: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(density_fitting, "IN_CACHE", 3 * 8 * 21**2)
    method = converged(smiles, "hf")
    method.mo_occ = method.mo_occ * np.linspace(1, 0.5, method.mo_occ.shape[-1])
    density = method.make_rdm1()
    repulsion, exchange = method.with_df.get_jk(density, omega=omega)
    expected = DF.get_jk(method.with_df, density, omega=omega)
    np.testing.assert_allclose(repulsion, expected[0], atol=1e-10)
    np.testing.assert_allclose(exchange, expected[1], atol=1e-10)
    nothing, alone = method.with_df.get_jk(density, with_j=False, omega=omega)
    assert nothing is None
    np.testing.assert_array_equal(alone, exchange)
    none = method.with_df.get_jk(np.asarray(density), omega=omega)
    np.testing.assert_allclose(none[1], exchange, atol=1e-10)


def test_integrals_are_kept_where_they_have_room() -> None:
    method = converged(ETHANOL, "pbe")
    fitted, energy = method.with_df, method.e_tot
    assert fitted._cderi is not None
    fitted.reset().max_memory = 0
    assert method.kernel() == pytest.approx(energy, abs=1e-9)
    assert fitted._cderi is None


def by_pyscf(method: Any, density: Any) -> np.ndarray:
    """Contract what PySCF makes of both derivatives."""
    share = method._numint.hybrid_coeff(method.xc)
    coulomb, exchange = rhf.get_jk(method.nuc_grad_method(), method.mol, density)
    spins = np.asarray(density).reshape(-1, *density.shape[-2:])
    share /= 3 - len(spins)
    slopes = np.reshape(coulomb, (len(spins), 3, *density.shape[-2:])).sum(axis=0)
    exchange_slopes = share * np.reshape(exchange, (len(spins), 3, *density.shape[-2:]))
    of_functions = np.einsum("xij,ij->ix", slopes, spins.sum(axis=0))
    of_functions -= np.einsum("sxij,sij->ix", exchange_slopes, spins)
    of_atoms = [of_functions[a:b].sum(axis=0) for *_, a, b in method.mol.aoslice_by_atom()]
    aux = coulomb.aux.sum(axis=(0, 1)) - share * sum(exchange.aux[i, i] for i in range(len(spins)))
    return 2 * np.array(of_atoms) + aux


@pytest.mark.parametrize(
    ("smiles", "xc"),
    [(ETHANOL, "b3lyp"), (RADICAL, "pbe0"), (ETHANOL, "hf"), (RADICAL, "pbe"), ("[H][H]", "pbe0")],
)
def test_repulsion_has_the_gradient_that_pyscf_finds(
    smiles: str, xc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(density_fitting, "AT_ONCE", 2**18)
    method = converged(smiles, xc)
    density = method.make_rdm1()
    assert can_be_fitted(method, density)
    found = gradient_of_repulsion(method, method.mol, density)
    np.testing.assert_allclose(found, by_pyscf(method, density), atol=1e-8)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-8)


def test_orbitals_may_be_occupied_in_part() -> None:
    method = converged(ETHANOL, "b3lyp")
    method.mo_occ = np.where(np.arange(len(method.mo_occ)) < 12, 2.0, 0.0)
    method.mo_occ[12:14] = 1.3, 0.7
    density = method.make_rdm1()
    found = gradient_of_repulsion(method, method.mol, density)
    np.testing.assert_allclose(found, by_pyscf(method, density), atol=1e-8)


def test_a_spin_may_have_no_electrons() -> None:
    np.testing.assert_allclose(converged("[H]", "b3lyp").nuc_grad_method().kernel(), 0, atol=1e-8)


def test_what_is_not_fitted_in_this_way_is_left_to_pyscf(monkeypatch: pytest.MonkeyPatch) -> None:
    method = converged(ETHANOL, "b3lyp")
    density = method.make_rdm1()
    assert not can_be_fitted(method, np.array(density))  # without orbitals
    method.max_memory = 0
    assert can_be_fitted(method, density)  # it is small
    monkeypatch.setattr(density_fitting, "LEAST_ROOM", 0)
    assert not can_be_fitted(method, density)
    for xc, settings in (
        ("wb97x", {}),
        ("b97m-v", {}),
        ("b3lyp", {"density_fit": False}),
    ):
        other = converged("O", xc, **settings)
        assert not can_be_fitted(other, other.make_rdm1())
