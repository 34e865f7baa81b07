"""What a relaxation would save if its first SCF calculations were converged less tightly.

Run: OMP_NUM_THREADS=1 python analysis/scf_convergence.py analysis/results/scf_convergence.json

Three validation molecules with five heavy atoms are relaxed from MMFF94 and from the model, and
each SCF cycle is recorded. The cycles of all gradient calls but the last, after the change of the
energy has first fallen below a threshold, are what a looser criterion could leave out.
"""

import sys
import time
from pathlib import Path
from typing import Any

from dft_speedup import B3LYP, about, about_model, chosen
from records import store

from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.optimizers.trust_radius import TrustRadiusBFGS
from diffrelax.dft.recorder import Call, Recorder
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules

MODEL = Path(__file__).parents[1] / "models" / "relax-qm9-1"
HEAVY_ATOMS = range(5, 6)
N = 3
THRESHOLDS = (1e-6, 1e-7)  # Hartree
SETTINGS = B3LYP.model_copy(update={"optimizer": "bfgs"})
LEVEL = SETTINGS.mean_field


class Watched(DensityFunctional):
    """Keeps the energy change, Hartree, and the processor time of each SCF cycle of a call."""

    def __init__(self, method: Any) -> None:
        self.cycles: list[tuple[float, float]] = []
        self.begun = time.process_time()
        super().__init__(method)

    def _count_cycle(self, environment: dict[str, Any]) -> None:
        super()._count_cycle(environment)
        change = abs(environment["e_tot"] - environment["last_hf_e"])
        self.cycles.append((change, time.process_time() - self.begun))


def main(path: Path) -> None:
    """Relax the molecules, and write the result after each relaxation."""
    model = load_model(MODEL)
    relaxations: list[dict[str, object]] = []
    for subject in chosen(load_qm9("validation"), HEAVY_ATOMS, N):
        assert subject.base is not None
        relaxed = relax_molecules([subject.base], model)[0].molecule
        assert relaxed is not None
        for start in (subject.base, relaxed):
            relaxations.append(watch(start))
            made = about(SETTINGS, "validation") | about_model(model)
            store(path, made | {"relaxations": relaxations})


def watch(start: Molecule) -> dict[str, object]:
    """Relax a molecule and tell where the processor time of its SCF cycles went."""
    calculator = Watched(mean_field(start, **LEVEL))
    calls: list[dict[str, Any]] = []

    def keep(call: Call) -> None:
        changes, seconds = zip(*calculator.cycles, strict=True)
        whole = time.process_time() - calculator.begun
        calls.append({"fmax": call.fmax, "seconds": whole, "changes": changes, "at": seconds})
        calculator.cycles, calculator.begun = [], time.process_time()

    atoms = start.to_atoms()
    hessian = gfn2_hessian(start)
    calculator.begun = time.process_time()
    atoms.calc = Recorder(start, calculator, callback=keep)
    optimizer = TrustRadiusBFGS(atoms, logfile=None, hessian=hessian)
    converged = optimizer.run(SETTINGS.fmax, SETTINGS.max_steps)
    whole = sum(call["seconds"] for call in calls)
    return {
        "name": start.name,
        "smiles": start.smiles,
        "start": start.start,
        "reason": "" if converged else f"not converged in {SETTINGS.max_steps} steps",
        "calls": [
            {
                "fmax_ev_per_angstrom": round(call["fmax"], 4),
                "processor_seconds": round(call["seconds"], 2),
                "energy_changes_hartree": [float(f"{change:.3g}") for change in call["changes"]],
                "cycles_end_at_seconds": [round(at, 2) for at in call["at"]],
            }
            for call in calls
        ],
        "share_beyond": {
            f"{limit:g} Hartree": round(sum(beyond(call, limit) for call in calls[:-1]) / whole, 4)
            for limit in THRESHOLDS
        },
    }


def beyond(call: dict[str, Any], limit: float) -> float:
    """Return the seconds from the first energy change below the limit to the last cycle."""
    first = next(at for change, at in zip(call["changes"], call["at"], strict=True)
                 if change < limit)  # fmt: skip
    return float(call["at"][-1] - first)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
