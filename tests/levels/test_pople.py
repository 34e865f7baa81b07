"""Exponents: those of Gaussian and Q-Chem, which differ from PySCF's table for Li to Ne."""

from __future__ import annotations

import pytest
from pyscf import gto

from diffrelax.dft import DFTSettings
from diffrelax.levels.pople import is_6_31g_2df_p, shells_6_31g_2df_p


@pytest.mark.parametrize(
    ("symbol", "d", "f"),
    [("C", [1.6, 0.4], 0.8), ("O", [1.6, 0.4], 1.4), ("S", [1.3, 0.325], 0.55)],
)
def test_polarisation_exponents(symbol: str, d: list[float], f: float) -> None:
    shells = shells_6_31g_2df_p([symbol])[symbol]
    assert [s[1][0] for s in shells if s[0] == 2] == pytest.approx(d)
    assert [s[1][0] for s in shells if s[0] == 3] == pytest.approx([f])


def test_functions_are_counted_as_in_gaussian() -> None:
    atoms = "C 0 0 0; O 0 0 1.2; H 0 0.9 -0.6; H 0 -0.9 -0.6"
    mol = gto.M(atom=atoms, basis=shells_6_31g_2df_p(["C", "O", "H"]))
    assert mol.nao == 2 * (3 + 2 * 3 + 2 * 6 + 7) + 2 * (2 + 3)


def test_sixth_d_function_is_the_cartesian_one() -> None:
    ours = gto.M(atom="O", basis={"O": shells_6_31g_2df_p(["O"])["O"][-2:-1]})
    cartesian = gto.M(atom="O", basis={"O": [[2, [1.6, 1.0]]]}, cart=True)
    xx, yy, zz = 0, 3, 5
    trace = gto.intor_cross("int1e_ovlp", ours, cartesian)[0, [xx, yy, zz]].sum()
    norm = cartesian.intor("int1e_ovlp")[[xx, yy, zz]][:, [xx, yy, zz]].sum() ** 0.5
    assert abs(trace) / norm == pytest.approx(1, abs=1e-4)


def test_spelling() -> None:
    assert is_6_31g_2df_p("6-31g(2df, p)")
    assert is_6_31g_2df_p("631g_(2DF,p)")  # as PySCF reads it, too
    assert DFTSettings(basis="631g(2df,p)") == DFTSettings()
    assert not is_6_31g_2df_p("6-31G(2df,2p)")
