"""Composite methods: a functional, its own basis set, and corrections for the geometry.

London dispersion and a geometrical counterpoise correction for the small basis set are added to
the energy of the functional. Both depend on the geometry alone, and are calculated by the package
pyscf-dispersion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffrelax.levels.differences import hessian_by_differences
from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf import lib

STEP = 1e-4  # Bohr


class Composite(NamedTuple):
    """Parts of a composite method.

    Parameters
    ----------
    name : str
    xc, basis : str
        Functional and basis set, as PySCF spells them.
    dispersion : callable
        Takes a molecule of PySCF, returns its dispersion model.
    counterpoise : str
        The method's name in the library of geometrical counterpoise corrections.
    """

    name: str
    xc: str
    basis: str
    dispersion: Callable[[Any], Any]
    counterpoise: str

    def corrections(self, mol: Any) -> tuple[float, np.ndarray]:
        """Evaluate the energy of the corrections, Hartree, and its gradient, Hartree/Bohr.

        Parameters
        ----------
        mol : pyscf.gto.Mole
        """
        from pyscf.dispersion.gcp import GCP

        parts = (
            self.dispersion(mol).get_dispersion(grad=True),
            GCP(mol, method=self.counterpoise).get_counterpoise(grad=True),
        )
        return sum(float(p["energy"]) for p in parts), sum(p["gradient"] for p in parts)


def _d3_of_b97_3c(mol: Any) -> Any:
    from pyscf.dispersion.dftd3 import DFTD3Dispersion

    return DFTD3Dispersion(mol, xc="b97-3c", version="d3bj", atm=True)


def _d4_of_r2scan_3c(mol: Any) -> Any:
    from pyscf.dispersion.dftd4 import DFTD4Dispersion

    model = DFTD4Dispersion(mol, xc="r2scan-3c", ga=2.0, gc=1.0)  # other charges than D4's own
    model.set_param(s8=0.0, a1=0.42, a2=5.65, s9=2.0)
    return model


COMPOSITES = {
    composite.name: composite
    for composite in (
        # Brandenburg et al. 2018, doi 10.1063/1.5012601
        Composite("b97-3c", "gga_xc_b97_3c", "def2-mTZVP", _d3_of_b97_3c, "b973c"),
        # Grimme et al. 2021, doi 10.1063/5.0040021
        Composite("r2scan-3c", "r2scan", "def2-mTZVPP", _d4_of_r2scan_3c, "r2scan3c"),
    )
}


def correct(method: Any, composite: Composite) -> Any:
    """Add the corrections of a composite method to energy, gradient and Hessian of its functional.

    Parameters
    ----------
    method : pyscf.dft.rks.KohnShamDFT
        With the functional and basis set of the composite method. Add density fitting before, a
        solvent after.
    """
    corrected = _Corrected(method, composite)
    return lib.set_class(corrected, (_Corrected, method.__class__))


class _Corrected:
    """A mean field with the corrections in place of PySCF's dispersion."""

    __name_mixin__ = "Composite"
    _keys = frozenset({"composite"})
    mol: Any
    scf_summary: dict[str, float]

    def __init__(self, method: Any, composite: Composite) -> None:
        self.__dict__.update(method.__dict__)
        self.composite = composite

    def do_disp(self, disp: Any = None) -> bool:
        return True

    def get_dispersion(self, *_: Any, **__: Any) -> float:
        energy, _gradient = self.composite.corrections(self.mol)
        self.scf_summary["dispersion"] = energy
        return energy

    def nuc_grad_method(self) -> Any:
        gradients = super().nuc_grad_method()  # type: ignore[misc]
        return lib.set_class(gradients, (_CorrectedGradients, gradients.__class__))

    Gradients = nuc_grad_method

    def Hessian(self) -> Any:  # noqa: N802
        hessian = super().Hessian()  # type: ignore[misc]
        return lib.set_class(hessian, (_CorrectedHessian, hessian.__class__))


class _CorrectedGradients:
    __name_mixin__ = "Composite"
    base: Any

    def get_dispersion(self, *_: Any, **__: Any) -> np.ndarray:
        gradient: np.ndarray = self.base.composite.corrections(self.base.mol)[1]
        return gradient


class _CorrectedHessian:
    __name_mixin__ = "Composite"
    base: Any

    def get_dispersion(self, *_: Any, **__: Any) -> np.ndarray:
        composite, mol = self.base.composite, self.base.mol.copy()
        positions = mol.atom_coords()

        def forces(shifts: np.ndarray) -> np.ndarray:
            geometries = (mol.set_geom_(positions + s, unit="Bohr") for s in shifts)
            return np.array([-composite.corrections(g)[1] for g in geometries])

        hessian = hessian_by_differences(forces, mol.natm, STEP)
        return hessian.reshape(mol.natm, 3, mol.natm, 3).transpose(0, 2, 1, 3)
