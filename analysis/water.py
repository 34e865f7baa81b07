"""What a model of the gas phase saves of DFT relaxations in water.

Run: OMP_NUM_THREADS=1 nice -n 19 python analysis/water.py analysis/results/water [N]
Needs the program xtb. Takes a day of one processor core, or as long as the first N molecules take,
and goes on where it was stopped, with what is kept in the folder `units`.

The first twenty test molecules of the report `small` of dft_speedup.py, 14 of them with a hydroxyl
or carbonyl group or a hydrogen on nitrogen, are relaxed in water (SMD) from MMFF94's geometry, from
that of the model, which it has learned in the gas phase, and from the minimum of DFT in the gas
phase. What the last one takes in the gas phase, from the model's geometry, is added. It is found
among the units of dft_speedup.py, and is made there where it is missing.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dft_speedup import B3LYP, MODEL, about, about_model, arms, chosen
from pack_units import unpacked
from rdkit import Chem
from records import store

from diffrelax.atomic import write_text
from diffrelax.benchmark.estimates import estimate_median
from diffrelax.benchmark.speedup.arms import check_arms
from diffrelax.benchmark.speedup.rows import OutcomeRow
from diffrelax.benchmark.speedup.run import Outcome, compare_arms, run_arm
from diffrelax.benchmark.speedup.statistics import speedup
from diffrelax.benchmark.speedup.units import Units
from diffrelax.data.qm9 import load_qm9
from diffrelax.models.release import Model, load_model
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

N = 20
GAS = Path(__file__).parent / "results" / "dft_speedup"
WATER = B3LYP.model_copy(update={"solvent": "water"})
ARMS = arms("mmff94 diffusion gas", "tric+hessian")
MMFF94, DIFFUSION, FROM_GAS = ARMS
POLAR = Chem.MolFromSmarts("[$([OX2H]),$([CX3]=[OX1]),$([#7;!H0])]")


def main(folder: Path, n: int) -> None:
    """Work through the molecules, and write what is known after each."""
    check_arms(ARMS, [FROM_GAS.start])
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(MODEL)
    in_gas, in_water = (Units(unpacked(of), MODEL) for of in (GAS, folder))
    found: list[tuple[Outcome, list[Outcome]]] = []
    for subject in list(chosen(load_qm9("test"), range(5, 8), N))[:n]:
        gas = run_arm(subject, DIFFUSION, B3LYP, in_gas)
        known = {FROM_GAS.start: gas.end} if gas.end else {}
        with_gas = replace(subject, known=known)
        (outcomes,) = compare_arms([with_gas], ARMS, WATER, in_water, progress=True)
        found.append((gas, outcomes))
        write(folder, found, model)
    print(table(found))


def write(folder: Path, found: Sequence[tuple[Outcome, list[Outcome]]], model: Model) -> None:
    """Write all numbers, and the table."""
    molecules = [
        {
            "name": gas.name,
            "smiles": gas.smiles,
            "polar": Chem.MolFromSmiles(gas.smiles).HasSubstructMatch(POLAR),
            "gas": OutcomeRow.of(gas).model_dump(),
            "water": [OutcomeRow.of(outcome).model_dump() for outcome in outcomes],
        }
        for gas, outcomes in found
    ]
    made = about(WATER, "test") | about_model(model)
    store(folder / "water.json", made | {"molecules": molecules})
    write_text(folder / "water.md", table(found) + "\n")


def table(found: Sequence[tuple[Outcome, list[Outcome]]]) -> str:
    """Show what each start is worth, and what it costs with the calls that made it.

    Ratios are over the molecules that end in the same reference minimum from both starts.
    """
    in_water = [outcome for _, outcomes in found for outcome in outcomes]
    in_all = [whole(outcome, gas) for gas, outcomes in found for outcome in outcomes]
    rows = []
    for arm in ARMS:
        ended = [o for o in in_water if o.arm == arm and o.excess is not None]
        gain = speedup(in_all, MMFF94, arm)
        calls = (
            estimate_median([o.calls for o in outcomes if o.arm == arm and o.excess is not None])
            for outcomes in (in_water, in_all)
        )
        rows.append((
            arm.start,
            f"{len(ended)} of {len(found)}",
            f"{estimate_median([o.excess for o in ended]) / KCAL_PER_MOL:.3f}",
            *(f"{value:g}" for value in calls),
            "–" if arm == MMFF94 else f"{gain.typical_calls:.2f}",
            "–" if arm == MMFF94 else str(gain.pairs),
        ))  # fmt: skip
    header = (
        "start", "molecules", "above its minimum in water, kcal/mol", "gradient calls in water",
        "with those in the gas phase", "times fewer than from MMFF94", "pairs",
    )  # fmt: skip
    return markdown_table(header, rows)


def whole(outcome: Outcome, gas: Outcome) -> Outcome:
    """Add the calls in the gas phase to those from its minimum."""
    if outcome.arm != FROM_GAS:
        return outcome
    return replace(outcome, energies=(*gas.energies, *outcome.energies))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3] or [N]))
