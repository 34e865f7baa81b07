"""Whether reference minima are those of QM9, which another program made (Gaussian).

Run: OMP_NUM_THREADS=1 python analysis/qm9_agreement.py analysis/results/dft_speedup

Three stiff test molecules are relaxed from their MMFF94 geometries as tightly as reference minima
are, and compared with the published geometries: in a floppy molecule these may stand 10 mÅ and more
from their minimum. The relaxations are kept with those of the speed-up.
"""

import sys
from itertools import islice
from pathlib import Path

from dft_speedup import B3LYP, about, chosen
from pack_units import unpacked
from rdkit.Chem import rdMolAlign
from records import store

from diffrelax.benchmark.speedup.arms import Subject
from diffrelax.benchmark.speedup.run import reference_settings
from diffrelax.benchmark.speedup.units import Units
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.hessian import vibrations
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule.comparison import same_minimum
from diffrelax.results.documents import MinimisationDocument

HEAVY_ATOMS = range(4, 7)
STIFF = 200.0  # cm⁻¹; lowest vibration by GFN2-xTB
N = 3


def main(folder: Path) -> None:
    """Compare the geometries, and write the result after each molecule."""
    units = Units(unpacked(folder))
    rows: list[dict[str, object]] = []
    candidates = chosen(load_qm9("test"), HEAVY_ATOMS, sys.maxsize)
    for subject in islice(filter(is_stiff, candidates), N):
        rows.append(compare(subject, units))
        made = about(reference_settings(B3LYP), "test") | {"stiff_above_cm": STIFF}
        store(folder / "qm9_agreement.json", made | {"molecules": rows})


def is_stiff(subject: Subject) -> bool:
    """Tell whether a molecule has no soft vibration at its QM9 geometry."""
    molecule = subject.known["qm9"]
    return vibrations(molecule, gfn2_hessian(molecule))[0][0] > STIFF


def compare(subject: Subject, units: Units) -> dict[str, object]:
    """Relax a molecule and tell how far it ends from its QM9 geometry."""
    assert subject.base is not None
    published = subject.known["qm9"]
    row: dict[str, object] = {"name": subject.name, "smiles": subject.base.smiles}
    document = units.relax(subject.base, reference_settings(B3LYP))
    if not isinstance(document, MinimisationDocument) or not document.converged:
        return row | {"reason": document.reason}
    minimum = document.output.to_molecule()
    rmsds = [
        rdMolAlign.GetBestRMS(image.to_rdkit(), published.to_rdkit())
        for image in (minimum, minimum.with_positions(minimum.positions * [-1.0, 1.0, 1.0]))
    ]
    return row | {
        "same_conformer": same_minimum(minimum, published),
        "rmsd_of_all_atoms_milliangstrom": 1000 * min(rmsds),
        "gradient_calls": document.gradient_calls,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
