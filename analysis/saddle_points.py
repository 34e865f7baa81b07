"""Whether two gradients along GFN2-xTB's softest motion tell minima from saddle points.

Run: OMP_NUM_THREADS=1 python analysis/saddle_points.py analysis/results/dft_speedup

On reference minima of two test molecules at which GFN2-xTB alone raised a false alarm: its lowest
frequency, the one that DFT's gradients tell of that motion, and the lowest of DFT's own Hessian.
"""

import sys
from pathlib import Path

from dft_speedup import B3LYP, MODEL, about, arms, chosen
from pack_units import unpacked
from records import store
from tqdm import tqdm

from diffrelax.benchmark.speedup.run import reference_settings, run_arm
from diffrelax.benchmark.speedup.units import Units
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.hessian import vibrations
from diffrelax.dft.minimum import NOISE, frequency_along
from diffrelax.levels import get_calculator
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule
from diffrelax.results.documents import MinimisationDocument

NAMES = ("qm9-980", "qm9-3840")


def main(folder: Path) -> None:
    """Look at each minimum, and write the result after each."""
    units = Units(unpacked(folder), MODEL)
    rows: list[dict[str, object]] = []
    subjects = {s.name: s for s in chosen(load_qm9("test"), range(5, 8), 51)}
    for name in tqdm(NAMES):
        outcome = run_arm(subjects[name], arms("diffusion", "tric+hessian")[0], B3LYP, units)
        assert outcome.end is not None
        reference = units.relax(outcome.end, reference_settings(B3LYP))
        assert isinstance(reference, MinimisationDocument)
        rows.append(look_at(reference.output.to_molecule()))
        page = about(B3LYP, "test") | {"noise_cm": NOISE, "minima": rows}
        store(folder / "saddle_points.json", page)


def look_at(minimum: Molecule) -> dict[str, object]:
    """Return the lowest frequencies, cm⁻¹, by GFN2-xTB, along its motion, and by DFT."""
    calculator = DensityFunctional(mean_field(minimum, xc=B3LYP.xc, basis=B3LYP.basis))
    frequencies, motions = vibrations(minimum, gfn2_hessian(minimum))
    hessian = calculator.hessian(minimum.to_atoms())
    return {
        "name": minimum.name,
        "smiles": minimum.smiles,
        "gfn2_xtb": frequencies[0],
        "dft_along_its_motion": frequency_along(
            motions[0], minimum, calculator, get_calculator("gfn2-xtb", minimum)
        ),
        "dft": vibrations(minimum, hessian)[0][0],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
