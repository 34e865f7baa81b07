"""What integrating the functional over compact blocks saves of an SCF cycle and of a gradient.

Run: OMP_NUM_THREADS=1 python analysis/integration.py analysis/results/integration.json

On an idle machine, in 25 minutes. At the MMFF94 geometries of pyrrole and of the first molecule of
each size of dft_reach.py, of the orbitals of the core Hamiltonian: processor seconds of one
integration by PySCF and by `diffrelax.levels.quadrature`, for the potential of a cycle and for the
gradient, and by how much the energies differ.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dft_reach import LEVELS
from pyscf.dft.numint import NumInt
from pyscf.grad import rks
from records import how_made, store

from diffrelax.clock import Time
from diffrelax.levels.density_functional import mean_field
from diffrelax.molecule import Molecule
from diffrelax.results.tables import markdown_table

MOLECULES = Path(__file__).parent / "results" / "dft_reach" / "molecules.csv"
TRIED = ("b3lyp-def2svp", "r2scan-3c")
HEADER = ("level", "heavy atoms", "functions", "potential: PySCF, s", "blocks, s",
          "gradient: PySCF, s", "blocks, s", "energies differ, Hartree")  # fmt: skip


def main(path: Path) -> None:
    """Time the integrations, write them, and print their table."""
    rows = [time_level(smiles, level) for level in TRIED for smiles in ("c1cc[nH]c1", *first())]
    store(path, how_made() | {"integrations": rows})
    print(markdown_table(HEADER, [cells(row) for row in rows]))


def first() -> list[str]:
    """Return the first molecule of each size."""
    with MOLECULES.open(newline="") as file:
        sizes = {row["size"]: row["smiles"] for row in reversed([*csv.DictReader(file)])}
    return [sizes[size] for size in ("12-17", "18-23", "24-30")]


def time_level(smiles: str, name: str) -> dict[str, Any]:
    """Integrate by both, for the same orbitals."""
    molecule = Molecule.from_smiles(smiles)
    method = mean_field(molecule, **LEVELS[name].mean_field)
    orbitals = method.eig(method.get_hcore(), method.get_ovlp())
    density = method.make_rdm1(orbitals[1], method.get_occ(*orbitals))
    method.grids.build(with_non0tab=True)
    arguments = method.mol, method.grids, method.xc, density
    whole, blocks = NumInt(), method._numint
    blocks.nr_rks(*arguments)  # makes the blocks, once for a geometry
    potentials = [timed(lambda by=by: by.nr_rks(*arguments)) for by in (whole, blocks)]
    slopes = [
        timed(lambda: rks.get_vxc(whole, *arguments)),
        timed(lambda: blocks.get_vxc_slopes(*arguments)),
    ]
    energies = [found[1] for found, _ in potentials]
    return {
        "level": name,
        "smiles": smiles,
        "heavy_atoms": molecule.n_heavy,
        "functions": method.mol.nao,
        "potential_seconds": [seconds for _, seconds in potentials],
        "gradient_seconds": [seconds for _, seconds in slopes],
        "energies_differ_hartree": float(np.ptp(energies)),
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what is found, and the processor seconds that it took."""
    begun = Time.now()
    return work(), round((Time.now() - begun).processor, 2)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row."""
    seconds = [*row["potential_seconds"], *row["gradient_seconds"]]
    return (row["level"], str(row["heavy_atoms"]), str(row["functions"]),
            *(f"{one:.1f}" for one in seconds),
            f"{row['energies_differ_hartree']:.0e}")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
