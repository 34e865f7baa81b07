"""Integrals of exchange and correlation by PySCF, over compact blocks of the integration grid.

PySCF evaluates all basis functions at all points. Here each block of neighbouring points has its
own molecule, with the functions that are not negligible there, and PySCF's integrals over the
blocks are summed (timings: `analysis/call_parts.py`). The density of a block is evaluated from
orbitals if that takes fewer products than the density matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from diffrelax.levels.fast_pyscf.density_fitting import can_be_fitted, gradient_of_repulsion
from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf import lib
    from pyscf.dft.gen_grid import make_mask
    from pyscf.dft.numint import NumInt
    from pyscf.grad import rks, uks

POINTS = 2048  # per block, at most
NEGLIGIBLE = 1e-9  # value of a basis function; energies change by less than 1e-10 Hartree


class Block(NamedTuple):
    """A block of the grid with the basis functions that are not negligible there.

    Parameters
    ----------
    grid : types.SimpleNamespace
        Attributes that PySCF reads from a grid.
    mol : pyscf.gto.Mole
        The molecule with only these basis functions.
    functions : (n,) array of int
        Indices of these basis functions.
    """

    grid: SimpleNamespace
    mol: Any
    functions: np.ndarray


class BlockedNumInt(NumInt):
    """PySCF's integration, block by block; see `NumInt` for arguments and results."""

    def __init__(self) -> None:
        self._mol: Any = None
        self._coords: Any = None
        self._blocks: list[Block] = []

    def nr_rks(self, *arguments: Any, **options: Any) -> Any:
        """Return the number of electrons, the energy, and the matrix of the potential."""
        return self._add_up(super().nr_rks, *arguments, **options)

    def nr_uks(self, *arguments: Any, **options: Any) -> Any:
        """Return the same for unrestricted orbitals."""
        return self._add_up(super().nr_uks, *arguments, **options)

    def get_vxc_slopes(self, mol: Any, grids: Any, xc_code: str, dms: np.ndarray) -> np.ndarray:
        """Return the potential between derivatives and functions, as PySCF's `get_vxc`."""
        whole = rks.get_vxc if np.ndim(dms) == 2 else uks.get_vxc
        (slopes,) = self._add_up(lambda *part: whole(self, *part)[1:], mol, grids, xc_code, dms)
        return slopes

    def _add_up(
        self,
        integrate: Callable[..., tuple[Any, ...]],
        mol: Any,
        grids: Any,
        xc_code: str,
        dms: Any,
        *arguments: Any,
        **options: Any,
    ) -> tuple[Any, ...]:
        """Sum the results of `integrate`, of which the last is a matrix, over the blocks."""
        plain, numbers, total = np.asarray(dms), [], None
        occupations = np.asarray(getattr(dms, "mo_occ", ()))
        occupied = np.flatnonzero(np.atleast_2d(occupations).any(axis=0))
        products = len(occupied) * (4 if self._xc_type(xc_code) == "GGA" else 1)
        for block in self._blocks_of(mol, grids):
            pairs: Any = (..., *np.ix_(block.functions, block.functions))
            part = np.ascontiguousarray(plain[pairs])
            if 0 < products < len(block.functions):  # cheaper than with the density matrix
                orbitals = np.asarray(dms.mo_coeff)[..., block.functions[:, None], occupied]
                part = lib.tag_array(part, mo_coeff=orbitals, mo_occ=occupations[..., occupied])
            *found, matrices = integrate(
                block.mol, block.grid, xc_code, part, *arguments, **options
            )
            numbers.append(found)
            if total is None:
                total = np.zeros((*matrices.shape[:-2], mol.nao, mol.nao))
            total[pairs] += matrices
        return (*map(sum, zip(*numbers, strict=True)), total)

    def _blocks_of(self, mol: Any, grids: Any) -> list[Block]:
        if grids.coords is None:
            grids.build(with_non0tab=True)
        if self._mol is not mol or self._coords is not grids.coords:
            self._mol, self._coords = mol, grids.coords
            parts = _split(grids.coords, np.arange(len(grids.coords)))
            blocks = (_block(mol, grids, points) for points in parts)
            self._blocks = [block for block in blocks if block.functions.size]
        return self._blocks


def _split(coords: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
    """Halve points along their longest extent until there are at most `POINTS` in each part."""
    if len(points) <= POINTS:
        return [points]
    axis = int(np.argmax(np.ptp(coords[points], axis=0)))
    points = points[np.argsort(coords[points, axis], kind="stable")]
    half = len(points) // 2
    return _split(coords, points[:half]) + _split(coords, points[half:])


def _points_of(grids: Any, points: np.ndarray | slice) -> SimpleNamespace:
    """Return the attributes that PySCF reads from a grid, for some of its points."""
    return SimpleNamespace(
        coords=grids.coords[points],
        weights=grids.weights[points],
        cutoff=grids.cutoff,
        mol=grids.mol,
        non0tab=None,
    )


def _block(mol: Any, grids: Any, points: np.ndarray) -> Block:
    coords = grids.coords[points]
    matters = make_mask(mol, coords, cutoff=NEGLIGIBLE).any(axis=0)
    part = mol.copy()
    part._bas = mol._bas[matters]
    return Block(
        _points_of(grids, points), part, np.flatnonzero(np.repeat(matters, np.diff(mol.ao_loc)))
    )


def integrate_in_blocks(method: Any) -> Any:
    """Return a mean field that integrates its functional and gradient block by block.

    Parameters
    ----------
    method : pyscf.dft.rks.KohnShamDFT
        Restricted or unrestricted. Add density fitting before, composite corrections and a solvent
        after.
    """
    method._numint = BlockedNumInt()
    return lib.set_class(method, (_InBlocks, method.__class__))


class _InBlocks:
    __name_mixin__ = "InBlocks"

    def nuc_grad_method(self) -> Any:
        gradients = super().nuc_grad_method()  # type: ignore[misc]
        return lib.set_class(gradients, (_GradientsInBlocks, gradients.__class__))

    Gradients = nuc_grad_method


class _GradientsInBlocks:
    __name_mixin__ = "InBlocks"
    base: Any
    mol: Any
    grids: Any
    auxbasis_response: bool  # with density fitting

    def get_veff(self, mol: Any = None, dm: np.ndarray | None = None) -> np.ndarray:
        """Return PySCF's `get_veff`, with the functional integrated block by block.

        Where `can_be_fitted`, the matrix has the functional alone; the gradient of repulsion and
        exchange is in its `aux`, which PySCF adds to the gradient of the atoms.
        """
        mol = self.mol if mol is None else mol
        dm = self.base.make_rdm1() if dm is None else dm
        slopes = self.base._numint.get_vxc_slopes(mol, self.base.grids, self.base.xc, dm)
        if can_be_fitted(self.base, dm) and self.auxbasis_response:
            return lib.tag_array(slopes, aux=gradient_of_repulsion(self.base, mol, dm))
        self.grids = _points_of(self.base.grids, slice(0))
        whole: np.ndarray = super().get_veff(mol, dm)  # type: ignore[misc]
        whole[:] += slopes
        return whole
