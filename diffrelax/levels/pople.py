"""The basis set 6-31G(2df,p) as in Gaussian and QM9.

PySCF's table of that name, from the Basis Set Exchange, has the d exponents of 6-311G for Li to Ne
and spherical d functions. This shifts forces by more than the threshold of a relaxation. The
definition: d exponents 2α and α/2 with the α of 6-31G* (Frisch, Pople and Binkley 1984,
doi 10.1063/1.447079), six Cartesian d functions, seven f functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from diffrelax.choices import DEFAULT_BASIS
from diffrelax.levels.names import letters
from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf.gto.basis import load

FIT = "def2-universal-jkfit"  # auxiliary basis; PySCF would choose it by the basis's name
SPREAD = 0.01

Shells = list[list]  # PySCF's form: [angular momentum, [exponent, coefficient], ...]


def is_6_31g_2df_p(basis: str) -> bool:
    """Return whether a basis is 6-31G(2df,p), in any spelling."""
    return letters(basis) == letters(DEFAULT_BASIS)


def shells_6_31g_2df_p(symbols: Iterable[str]) -> dict[str, Shells]:
    """Return the shells of each element.

    Parameters
    ----------
    symbols : iterable of str
        Elements H to Ar.

    Raises
    ------
    pyscf.lib.exceptions.BasisNotFoundError
        If the basis lacks an element.
    """
    return {symbol: _shells(symbol) for symbol in sorted(set(symbols))}


def _shells(symbol: str) -> Shells:
    shells = load(DEFAULT_BASIS, symbol)
    alphas = [shell[1][0] for shell in load("6-31G*", symbol) if shell[0] == 2]
    exponents = [factor * alpha for alpha in alphas for factor in (2.0, 0.5)]
    return (
        [shell for shell in shells if shell[0] != 2]
        + [[2, [exponent, 1.0]] for exponent in exponents]
        + [_sixth_d_function(exponent) for exponent in exponents]
    )


def _sixth_d_function(exponent: float) -> list:
    """Return r² exp(-a r²), the sixth Cartesian d function, as two normalised s functions.

    It is the derivative of exp(-a r²) with respect to -a, here by central differences. The
    normalisation constant of an s function is proportional to a^(3/4).
    """
    low, high = 1 - SPREAD, 1 + SPREAD
    return [0, [exponent * low, low**-0.75], [exponent * high, -(high**-0.75)]]
