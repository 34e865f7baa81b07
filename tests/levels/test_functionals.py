from __future__ import annotations

import warnings

import ase
import numpy as np
import pytest
from ase.units import Hartree
from pyscf import gto
from pyscf.dft import libxc
from threadpoolctl import threadpool_limits

from diffrelax.levels import get_calculator
from diffrelax.levels.density_functional import DensityFunctional
from diffrelax.levels.functionals import LACKING, Functional, read_functional
from diffrelax.molecule import Molecule

METHANE_AND_NEON = ase.Atoms(
    "CH4Ne",
    [
        [0, 0, 0],
        [0, 0, 1.1],
        [1.04, 0, -0.37],
        [-0.52, 0.9, -0.37],
        [-0.52, -0.9, -0.37],
        [0, 0, -3],
    ],
)


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


def test_the_table_names_functionals_of_libxc() -> None:
    assert set(LACKING) <= set(libxc.available_libxc_functionals())


def test_every_functional_of_libxc_named_for_its_dispersion_is_refused_or_has_vv10() -> None:
    named = ("_D", "_D3", "_3C", "VDW", "VV10", "_V", "CF22D")
    for name in libxc.available_libxc_functionals():
        if not name.endswith(named) or name.endswith("DLDF"):
            continue
        try:
            functional = read_functional(name)
        except ValueError:
            continue
        assert libxc.is_nlc(name) or functional.dispersion or functional.composite, name


@pytest.mark.parametrize(
    ("xc", "message"),
    [
        (
            "LDA",
            "xc='LDA' is exchange only: add a correlation functional after a comma, as in lda,vwn",
        ),
        ("0.5*hf + 0.5*b88", "is exchange only"),
        ("b3lyp-gd3bj", "unknown functional.*write a dispersion correction as in b3lyp-d3bj"),
        ("B3LYP D3BJ", "unknown functional.*write a dispersion correction as in b3lyp-d3bj"),
        ("b97-d", "GGA_XC_B97_D, which is defined with the dispersion correction D2.*use b97-d3bj"),
        ("B97_D", "use b97-d3bj"),
        ("gga_xc_b97d", "use b97-d3bj"),
        ("0.5*b97_d + 0.5*pbe", "use b97-d3bj"),
        ("0.5*b97_3c+0.5*pbe", "GGA_XC_B97_3C, which is defined with a basis set"),
        (
            "wb97x-3c",
            "includes a basis set and corrections that PySCF lacks: use one of b97-3c, r2scan-3c",
        ),
        ("wb97x-d", "HYB_GGA_XC_WB97X_D, which is defined with a dispersion correction of its own"),
        ("WB97XD", "use wb97x-d3 or wb97x-d3bj"),
        ("HYB_GGA_XC_WB97X_D", "use wb97x-d3 or wb97x-d3bj"),
        ("0.25*HF + 0.75*wb97x_d3", "use wb97x-d3, alone"),
        ("oblyp_d", "the dispersion correction D2"),
        ("beefvdw", "the van der Waals density functional"),
        ("scan,scan_rvv10", "the nonlocal correlation rVV10"),
        ("b2plyp", "unknown functional.*double hybrids are not supported"),
        ("dsd-blyp-d3bj", "unknown functional.*double hybrids are not supported"),
        ("wb97x-2", "PySCF reads the 2 in it as a functional"),
        ("scan-0", "PySCF reads the 0 in it as a functional"),
        ("slater-vwn5", "PySCF reads the - in it as a minus"),
        ("tpss-tpss", "PySCF reads the - in it as a minus"),
        ("b3lyp-vv10", "PySCF reads the - in it as a minus"),
        ("pbe+vv10", "has GGA_XC_VV10, which is a complete functional, as a part"),
        ("scanl", "depends on the Laplacian of the density"),
        ("gga_x_lb,vwn", "GGA_X_LB, a potential without an energy"),
        ("mpw1pw91", "unknown functional.*near is mpw91 or"),
    ],
)
def test_a_functional_that_would_lose_its_dispersion_is_refused(xc: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_functional(xc)


@pytest.mark.parametrize(
    "xc",
    ["b3lyp", "pbe0", "M06-2X", "b97-1", "wb97x_v", "scan,scan_vv10", "hf", "lda,", "sogga11_x"],
)
def test_what_pyscf_does_as_it_is_defined_is_left_alone(xc: str) -> None:
    assert read_functional(xc) == Functional(xc)


@pytest.mark.parametrize("xc", ["scan-vv10", "lc-wpbe", "sogga11-x"])
def test_what_others_write_with_a_dash_is_no_difference(xc: str) -> None:
    assert read_functional(xc) == Functional(xc.replace("-", "_"))
    assert read_functional("pbe0-0.1*pbe") == Functional("pbe0-0.1*pbe")


@pytest.mark.parametrize(
    ("xc", "message"),
    [
        ("wb97x_v-d3bj", "includes dispersion twice, VV10 and d3bj"),
        ("m06-2x-d3bj", "d3bj has no parameters for 'm06-2x'"),
        ("0.2*hf+0.8*b88,lyp-d3bj", "has no parameters"),
        ("hyb_mgga_x_cf22d,mgga_c_cf22d", "use cf22d, alone"),
    ],
)
def test_corrections_that_do_not_belong_are_refused(xc: str, message: str) -> None:
    pytest.importorskip("pyscf.dispersion")
    with pytest.raises(ValueError, match=message):
        read_functional(xc)


@pytest.mark.parametrize(
    ("xc", "bare", "version", "parameters"),
    [
        ("b97-d3bj", "gga_xc_b97_d", "d3bj", "b97d"),
        ("B97_D-D3BJ", "gga_xc_b97_d", "d3bj", "b97d"),
        ("wb97x-d3", "hyb_gga_xc_wb97x_d3", "d3zero", "wb97x"),
        ("HYB_GGA_XC_WB97X_D3", "hyb_gga_xc_wb97x_d3", "d3zero", "wb97x"),
        ("wb97x-d3bj", "wb97x-v", "d3bj", "wb97x"),
        ("wb97x-d4", "wb97x-v", "d4", "wb97x"),
        ("pbe-d4", "pbe", "d4", "pbe"),
    ],
)
def test_energies_have_their_dispersion(xc: str, bare: str, version: str, parameters: str) -> None:
    """Each is that of the bare functional in PySCF plus that of the correction alone."""
    dispersion = pytest.importorskip("pyscf.dispersion")
    from pyscf.dispersion import dftd3, dftd4

    assert dispersion
    atoms = METHANE_AND_NEON.copy()
    molecule = Molecule.from_atoms(atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        calculator = get_calculator("dft", molecule, xc=xc, basis="sto-3g", grid_level=0)
        energy = calculator.get_potential_energy(atoms) / Hartree
    method = calculator.method.copy()
    method.xc, method.disp, method.nlc = bare, False, False
    mol = gto.M(atom=list(zip(molecule.symbols, atoms.positions, strict=True)), verbose=0)
    correction = (
        dftd4.DFTD4Dispersion(mol, xc=parameters)
        if version == "d4"
        else dftd3.DFTD3Dispersion(mol, xc=parameters, version=version)
    ).get_dispersion(grad=False)["energy"]
    assert correction < -1e-4
    assert energy == pytest.approx(method.kernel() + correction, abs=1e-6)


@pytest.mark.parametrize(
    ("xc", "version", "parameters"),
    [("b97-d3bj", "d3bj", "b97d"), ("wb97x-d3", "d3zero", "wb97x")],
)
def test_forces_and_hessian_have_their_dispersion_too(
    xc: str, version: str, parameters: str
) -> None:
    pytest.importorskip("pyscf.dispersion")
    from pyscf.dispersion import dftd3

    def correction(distance: float) -> float:
        mol = gto.M(atom=f"He 0 0 0; He 0 0 {distance}", verbose=0)
        d3 = dftd3.DFTD3Dispersion(mol, xc=parameters, version=version)
        return d3.get_dispersion(grad=False)["energy"] * Hartree

    atoms = ase.Atoms("He2", [[0, 0, 0], [0, 0, 2.6]])
    derivatives = []
    for dispersion in (True, False):
        calculator = get_calculator("dft", Molecule.from_atoms(atoms), xc=xc, basis="sto-3g")
        assert isinstance(calculator, DensityFunctional)
        if not dispersion:
            calculator.method.disp = calculator.method_scan.disp = False
        force = calculator.get_forces(atoms)[1, 2]
        derivatives.append((force, calculator.hessian(atoms)[5, 5]))
    force, curvature = np.subtract(*derivatives)
    step = 0.01
    below, here, above = (correction(2.6 + shift) for shift in (-step, 0, step))
    assert force == pytest.approx(-(above - below) / (2 * step), rel=0.01)
    assert curvature == pytest.approx((above - 2 * here + below) / step**2, rel=0.05)
    assert abs(force) > 1e-5
