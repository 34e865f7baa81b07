"""Choices and defaults shared by settings, results and commands; imports nothing heavy."""

from typing import Literal, TypeAlias

DEFAULT_BASIS = "6-31G(2df,p)"
CurvatureLevel: TypeAlias = Literal["none", "gfn2-xtb", "dft"]
Target: TypeAlias = Literal["orca", "gaussian", "nwchem"]
Engine: TypeAlias = Literal["local", "remote"]
Verdict: TypeAlias = Literal["relaxed", "refused", "fell_back", "failed"]
Kind: TypeAlias = Literal["failure", "relaxation", "minimisation", "static", "conformer"]
