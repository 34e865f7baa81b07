"""What PySCF takes for the parts of a gradient call, and what this package takes for them.

Run: OMP_NUM_THREADS=1 python analysis/call_parts.py analysis/results/call_parts.json

On an idle machine, in half an hour; it goes on where it was stopped. At the MMFF94 geometries of
pyrrole and of the first molecule of each size of dft_reach.py, of the orbitals of the core
Hamiltonian: processor seconds of integrating the functional for the potential of an SCF cycle and
for the gradient (`diffrelax.levels.fast_pyscf.quadrature`), and of repulsion and, if there is,
exact exchange (`diffrelax.levels.fast_pyscf.density_fitting`) for a cycle and for the gradient.
What is made once for a geometry is made before.
"""

import csv
import json
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dft_reach import LEVELS
from pyscf.df import DF
from pyscf.df.grad import rhf
from pyscf.dft.numint import NumInt
from pyscf.grad import rks
from records import how_made, store

from diffrelax.clock import Time
from diffrelax.levels.density_functional import mean_field
from diffrelax.levels.fast_pyscf.density_fitting import gradient_of_repulsion
from diffrelax.molecule import Molecule
from diffrelax.results.tables import markdown_table

MOLECULES = Path(__file__).parent / "results" / "dft_reach" / "molecules.csv"
TRIED = ("b3lyp-def2svp", "r2scan-3c")
PARTS = ("potential", "gradient of the functional", "repulsion", "gradient of repulsion")
HEADER = ("level", "heavy atoms", "functions",
          *(f"{part}{by}" for part in PARTS for by in (": PySCF, s", ", s")))  # fmt: skip


def main(path: Path) -> None:
    """Time what has not been timed, write it, and print the table."""
    rows = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else []
    known = {(row["level"], row["smiles"]): row for row in rows}
    for level in TRIED:
        for smiles in ("c1cc[nH]c1", *first()):
            row = known.setdefault((level, smiles), {"level": level, "smiles": smiles})
            for part in PARTS:
                if part not in row:
                    row |= time_part(part, smiles, level)
                    store(path, how_made() | {"parts": list(known.values())})
    print(markdown_table(HEADER, [cells(row) for row in known.values()]))


def first() -> list[str]:
    """Return the first molecule of each size."""
    with MOLECULES.open(newline="") as file:
        sizes = {row["size"]: row["smiles"] for row in reversed([*csv.DictReader(file)])}
    return [sizes[size] for size in ("12-17", "18-23", "24-30")]


def time_part(part: str, smiles: str, level: str) -> dict[str, Any]:
    """Return the seconds of PySCF and of this package."""
    method, density = guessed(smiles, level)
    whole, blocks = NumInt(), method._numint
    arguments = method.mol, method.grids, method.xc, density
    gradients, exchange = method.nuc_grad_method(), bool(whole.hybrid_coeff(method.xc))
    bare = DF(method.mol, method.auxbasis)
    ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "potential": (lambda: whole.nr_rks(*arguments), lambda: blocks.nr_rks(*arguments)),
        "gradient of the functional": (
            lambda: rks.get_vxc(whole, *arguments),
            lambda: blocks.get_vxc_slopes(*arguments),
        ),
        "repulsion": (
            lambda: DF.get_jk(method.with_df if exchange else bare, density, with_k=exchange),
            lambda: method.with_df.get_jk(density, with_k=exchange),
        ),
        "gradient of repulsion": (
            lambda: rhf.get_jk(gradients, method.mol, density, with_k=exchange),
            lambda: gradient_of_repulsion(method, method.mol, density),
        ),
    }
    return {
        "heavy_atoms": int((method.mol.atom_charges() > 1).sum()),
        "functions": method.mol.nao,
        part: [seconds_of(way) for way in ways[part]],
    }


@lru_cache(maxsize=1)
def guessed(smiles: str, level: str) -> tuple[Any, Any]:
    """Return a mean field with all that is made once for a geometry, and the density of a guess."""
    method = mean_field(Molecule.from_smiles(smiles), **LEVELS[level].mean_field)
    orbitals = method.eig(method.get_hcore(), method.get_ovlp())
    density = method.make_rdm1(orbitals[1], method.get_occ(*orbitals))
    method.grids.build(with_non0tab=True)
    method.with_df.build()
    method._numint.nr_rks(method.mol, method.grids, method.xc, density)
    return method, density


def seconds_of(work: Callable[[], Any]) -> float:
    """Return the processor seconds that work takes."""
    begun = Time.now()
    work()
    return round((Time.now() - begun).processor, 2)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row."""
    seconds = (f"{one:.1f}" for part in PARTS for one in row[part])
    return (row["level"], str(row["heavy_atoms"]), str(row["functions"]), *seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
