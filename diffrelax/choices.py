"""What settings, results and the command line choose from, named where nothing else is loaded."""

from typing import Literal, TypeAlias

HessianLevel: TypeAlias = Literal["gfn2-xtb", "aimnet2", "none"]
Optimizer: TypeAlias = Literal["tric", "bfgs", "geometric", "sella"]
CurvatureLevel: TypeAlias = Literal["none", "gfn2-xtb", "dft"]
Target: TypeAlias = Literal["orca", "gaussian", "nwchem"]
Engine: TypeAlias = Literal["local", "remote"]
Verdict: TypeAlias = Literal["relaxed", "refused", "fell_back", "failed"]
Kind: TypeAlias = Literal["failure", "relaxation", "minimisation", "static", "conformer"]
