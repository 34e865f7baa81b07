"""Electron repulsion and exact exchange with density fitting, and their gradients.

Without exact exchange, PySCF evaluates all integrals twice in each cycle of an SCF. Here they are
kept from the first cycle on, since the gradient needs them anyway. For exchange, PySCF multiplies
matrices with an older BLAS than NumPy's, and evaluates both halves of a symmetric product. Here
NumPy multiplies a few rows of integrals at a time.

For a gradient, PySCF fits again, and evaluates separate integrals for the derivatives of basis and
fitting functions. Here the fits of the SCF are used, and the derivatives of fitting functions
follow from those of basis functions by translational invariance (timings:
`analysis/call_parts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf import lib
    from pyscf.ao2mo import _ao2mo
    from pyscf.df.addons import make_auxmol
    from pyscf.df.incore import aux_e2

AT_ONCE = 2**28  # bytes of integrals
IN_CACHE = 2**23  # bytes of integrals
LEAST_ROOM = 2000  # MB, which PySCF uses for its integrals in any case


def fit_quickly(fitted: Any) -> Any:
    """Return density fitting that keeps its integrals, with exchange from orbitals by NumPy.

    Parameters
    ----------
    fitted : pyscf.df.DF
    """
    return lib.set_class(fitted, (_Quick, fitted.__class__))


class _Quick:
    __name_mixin__ = "Quick"
    mol: Any
    auxbasis: Any
    max_memory: float  # MB
    _cderi: Any
    build: Callable[[], Any]
    range_coulomb: Callable[[float], AbstractContextManager[Any]]

    def get_jk(
        self,
        dm: np.ndarray,
        hermi: int = 1,
        with_j: bool = True,
        with_k: bool = True,
        direct_scf_tol: float = 1e-13,
        omega: float | None = None,
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the matrices of repulsion, if requested, and of exchange, as PySCF's `get_jk`."""
        if not with_k and omega is None and self._cderi is None and self._have_room():
            self.build()
        if not with_k or np.ndim(getattr(dm, "mo_coeff", ())) != np.ndim(dm):
            found: tuple[np.ndarray | None, np.ndarray] = super().get_jk(  # type: ignore[misc]
                dm, hermi, with_j, with_k, direct_scf_tol, omega
            )
            return found
        if omega is None:
            return repulsion_and_exchange(self, dm, with_j)
        with self.range_coulomb(omega) as of_range:
            return repulsion_and_exchange(of_range, dm, with_j)

    def _have_room(self) -> bool:
        n_pairs = self.mol.nao * (self.mol.nao + 1) // 2
        size = 8 * n_pairs * make_auxmol(self.mol, self.auxbasis).nao
        return bool(size < 0.9e6 * (self.max_memory - lib.current_memory()[0]))  # as in PySCF


def repulsion_and_exchange(
    fitted: Any, density: Any, with_repulsion: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the matrices of repulsion and of exact exchange.

    Parameters
    ----------
    fitted : pyscf.df.DF
    density : (n_functions, n_functions) or (2, n_functions, n_functions) array
        Density matrix, tagged with its orbitals as by PySCF.
    with_repulsion : bool
        If False, repulsion is None.

    Returns
    -------
    repulsion, exchange : arrays like the density, Hartree
    """
    n = density.shape[-1]
    spins = _occupied(density)
    exchange = np.zeros((len(spins), n, n))
    repulsion: Any = 0.0
    packed = _packed(np.asarray(density).reshape(-1, n, n))
    at_once = max(1, IN_CACHE // (8 * n**2))
    squares = np.empty((at_once, n, n))
    for rows in fitted.loop(max(at_once, AT_ONCE // (4 * n**2))):
        if with_repulsion:
            repulsion += (rows @ packed.T).T @ rows
        for first in range(0, len(rows), at_once):
            part = lib.unpack_tril(rows[first : first + at_once], out=squares)
            for orbitals, total in zip(spins, exchange, strict=True):
                half = (orbitals.T @ part).reshape(-1, n)
                total += half.T @ half
    exchange *= 4 - np.ndim(density)  # both spins at once
    return (
        lib.unpack_tril(repulsion).reshape(density.shape) if with_repulsion else None,
        exchange.reshape(density.shape),
    )


def can_be_fitted(method: Any, density: Any) -> bool:
    """Return whether `gradient_of_repulsion` is applicable to a mean field and its density.

    It needs repulsion and exchange fitted to independent functions, no range separation, no
    nonlocal correlation, orbitals if there is exact exchange, and memory for the fits.
    """
    fitted = getattr(method, "with_df", None)
    if fitted is None or getattr(method, "only_dfj", False) or method.do_nlc():
        return False
    omega, _, share = method._numint.rsh_and_hybrid_coeff(method.xc, spin=method.mol.spin)
    if omega:
        return False
    n_fitted, n_fitting, needed = fitted.get_naoaux(), fitted.auxmol.nao, 7 * fitted.auxmol.nao**2
    if share:
        orbitals = getattr(density, "mo_coeff", None)
        if orbitals is None or np.ndim(orbitals) != np.ndim(density):
            return False
        n_occupied = np.count_nonzero(np.atleast_2d(density.mo_occ), axis=1)
        needed += n_fitting * (n_occupied**2).sum() + n_fitting * n_occupied.max() ** 2
    room = 1e6 * max(LEAST_ROOM, method.max_memory - lib.current_memory()[0])
    return bool(n_fitted == n_fitting and 8 * needed + 3 * AT_ONCE < room)


def gradient_of_repulsion(method: Any, mol: Any, density: Any) -> np.ndarray:
    """Return the gradient of repulsion and exact exchange with respect to the nuclei.

    With fits ρ of the density and Y of products of occupied orbitals, and the repulsion V of
    fitting functions, the energy is ½ ρᵀVρ − ½ a Σ YᵀVY for a fraction a of exact exchange.

    Parameters
    ----------
    method : pyscf.dft.rks.KohnShamDFT
        Restricted or unrestricted; see `can_be_fitted`.
    mol : pyscf.gto.Mole
    density : (n_functions, n_functions) or (2, n_functions, n_functions) array
        Density matrix; with exact exchange, tagged with its orbitals as by PySCF.

    Returns
    -------
    (n_atoms, 3) array, Hartree/Bohr

    Raises
    ------
    LinAlgError
        If the repulsion matrix of fitting functions is not positive definite.
    """
    share = method._numint.hybrid_coeff(method.xc, spin=mol.spin)
    aux = method.with_df.auxmol
    root = cholesky(aux.intor("int2c2e"), lower=True)
    total = np.asarray(density).reshape(-1, mol.nao, mol.nao).sum(axis=0)
    packed = _packed(total)
    rho = _fit(method.with_df, root, lambda rows: (rows @ packed)[:, None])[:, 0]
    spins = [orbitals for orbitals in _occupied(density) if orbitals.size] if share else []
    products = [_fit_products(method.with_df, root, orbitals) for orbitals in spins]
    share *= 4 - np.ndim(density)  # both spins at once
    pairs = np.outer(rho, rho)
    for fits in products:
        flat = fits.reshape(len(fits), -1)
        pairs -= share * (flat @ flat.T)
    of_aux = np.einsum("xpq,pq->px", aux.intor("int2c2e_ip1"), pairs)
    of_functions = np.zeros((mol.nao, 3))
    for block, integrals in _derivatives(mol, aux):
        weights = rho[block, None, None] * total
        for fits, orbitals in zip(products, spins, strict=True):
            half = (orbitals @ fits[block]).reshape(-1, orbitals.shape[1])
            weights -= share * (half @ orbitals.T).reshape(weights.shape)
        moved = np.stack([np.einsum("pji,pji->pi", weights, part) for part in integrals], axis=2)
        of_functions -= 2 * moved.sum(axis=0)
        of_aux[block] += 2 * moved.sum(axis=1)
    return _by_atom(mol, of_functions) + _by_atom(aux, of_aux)


def _packed(densities: np.ndarray) -> np.ndarray:
    """Return the lower triangles, with off-diagonal elements doubled."""
    packed: np.ndarray = lib.pack_tril(densities * (2 - np.eye(densities.shape[-1])))
    return packed


def _occupied(density: Any) -> list[np.ndarray]:
    """Return orbitals times the square roots of their occupations, for each spin or for both."""
    orbitals, occupations = np.asarray(density.mo_coeff), np.asarray(density.mo_occ)
    if orbitals.ndim == 2:
        orbitals, occupations = orbitals[None], occupations[None] / 2
    spins = zip(orbitals, occupations, strict=True)
    return [one[:, n > 0] * np.sqrt(n[n > 0]) for one, n in spins]


def _fit_products(fitted: Any, root: np.ndarray, orbitals: np.ndarray) -> np.ndarray:
    """Return the fits of products of orbitals, (n_fitting, n_occupied, n_occupied)."""
    n = orbitals.shape[1]
    into = np.asfortranarray(orbitals), (0, n, 0, n)
    fits = _fit(fitted, root, lambda rows: _ao2mo.nr_e2(rows, *into, aosym="s2", mosym="s1"))
    return fits.reshape(-1, n, n)


def _fit(
    fitted: Any, root: np.ndarray, contracted: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return the fits of contracted rows of the integrals, (n_fitting, n)."""
    rows = np.concatenate([contracted(part) for part in fitted.loop()])
    return solve_triangular(root, rows, lower=True, trans="T", overwrite_b=True)


def _derivatives(mol: Any, aux: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield derivatives of the integrals, (3, n_fitting, n, n), in blocks of fitting functions."""
    ends = aux.ao_loc
    most = max(AT_ONCE // (3 * 8 * mol.nao**2), int(np.diff(ends).max()))
    first = 0
    while first < aux.nbas:
        last = int(np.searchsorted(ends, ends[first] + most, side="right")) - 1
        shells = (0, mol.nbas, 0, mol.nbas, first, last)
        found = aux_e2(mol, aux, "int3c2e_ip1", aosym="s1", comp=3, shls_slice=shells)
        yield slice(ends[first], ends[last]), found.transpose(0, 3, 2, 1)
        first = last


def _by_atom(mol: Any, of_functions: np.ndarray) -> np.ndarray:
    """Sum over the functions of each atom."""
    ends = mol.aoslice_by_atom()[:, 2:]
    return np.array([of_functions[first:last].sum(axis=0) for first, last in ends])
