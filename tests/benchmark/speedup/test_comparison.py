import numpy as np
import pytest

from diffrelax.benchmark.speedup import units as speedup_units
from diffrelax.benchmark.speedup.arms import SpeedupArm, Subject, recipe_of
from diffrelax.benchmark.speedup.comparison import comparison_table, excess_energies
from diffrelax.benchmark.speedup.run import Outcome, run_arm
from diffrelax.benchmark.speedup.units import Start, Units
from diffrelax.clock import Time
from diffrelax.dft import DFTRelaxation, DFTSettings
from diffrelax.molecule import Molecule
from diffrelax.results.documents import MinimisationDocument
from diffrelax.results.provenance import Provenance
from diffrelax.store import Store

SETTINGS = DFTSettings(xc="pbe", basis="sto-3g")


def arm(molecule, energies, *, start="diffusion", converged=True, reason=""):
    dft = DFTRelaxation(
        molecule=molecule,
        converged=converged,
        reason=reason,
        energies=energies,
        trajectory=np.array([molecule.positions] * len(energies)),
        all_forces=np.full((len(energies), molecule.n_atoms, 3), 0.005),
        scf_cycles=9,
        times={"total": Time(2.0, 2.0)},
        criterion="",
        notes=(),
        settings=SETTINGS,
    )
    return Outcome(
        "butane",
        "CCCC",
        SpeedupArm(start, "tric"),
        reason,
        times={"total": Time(3.0, 3.0)},
        energies=energies,
        scf_cycles=9,
        end=molecule if converged else None,
        relaxation=MinimisationDocument.from_dft(molecule, dft, Provenance.here()),
    )


def relaxed_from(start, base, model, settings=SETTINGS):
    units = Units(Store(None), made={"diffusion": Start(model, Time(0.5, 0.5))})
    subject = Subject("a molecule", base, Time(0.25, 0.25))
    return run_arm(subject, SpeedupArm(start, recipe_of(settings)), settings, units)


@pytest.fixture(scope="module")
def butanes():
    """Two conformers of butane."""
    trans, gauche = (
        next(m for s in range(50) if kind(m := Molecule.from_smiles("CCCC", seed=s)) == k)
        for k in ("trans", "gauche")
    )
    return trans, gauche


def kind(butane):
    ends = np.linalg.norm(butane.positions[0] - butane.positions[3])
    return "trans" if ends > 3.6 else "gauche"


def test_arms_in_one_minimum_share_its_lowest_energy(butanes):
    trans, _ = butanes
    arms = [
        arm(trans, (-9.99, -10.000)),
        arm(trans, (-9.50, -10.002), start="mmff94"),
    ]
    assert excess_energies(arms) == pytest.approx([0.012, 0.502])
    assert "same minimum" in comparison_table(arms).splitlines()[3]


def test_arms_in_two_minima_have_their_own(butanes):
    trans, gauche = butanes
    arms = [
        arm(trans, (-9.99, -10.0)),
        arm(gauche, (-9.50, -9.96), start="mmff94"),
    ]
    assert excess_energies(arms) == pytest.approx([0.01, 0.46])
    assert "another minimum" in comparison_table(arms)


def test_an_arm_that_did_not_converge_has_no_excess_and_says_why(butanes):
    arms = [
        arm(butanes[0], (-9.99, -10.0)),
        arm(
            butanes[0], (-9.5,), start="mmff94", converged=False, reason="not converged in 0 steps"
        ),
        Outcome(
            "butane",
            "CCCC",
            SpeedupArm("uff", "tric"),
            "UFF lacks parameters",
            times={"total": Time()},
        ),
    ]
    assert excess_energies(arms)[1:] == [None, None]
    table = comparison_table(arms).splitlines()
    assert "not converged in 0 steps" in table[3]
    assert "UFF lacks parameters" in table[4]


def test_table_is_in_kcal_per_mol_and_counts_all_seconds(butanes):
    arms = [arm(butanes[0], (-10.0 + 0.0433641, -10.0))]
    cells = comparison_table(arms).splitlines()[2].split()
    assert cells == ["diffusion", "1.00", "2", "9", "3.0", "converged"]


def test_each_start_is_what_its_name_says():
    base = Molecule.from_smiles("O")
    moved = base.with_positions(base.positions * 1.02, start="diffusion")
    arms = {s: relaxed_from(s, base, moved) for s in ("diffusion", "mmff94", "gfn2-xtb")}
    assert all(a.converged for a in arms.values())
    assert arms["diffusion"].times["start"].wall == 0.5
    assert arms["mmff94"].times["start"].wall == 0.0
    assert arms["gfn2-xtb"].times["start"].wall > 0.0
    assert all(a.times["embedding"].wall == 0.25 for a in arms.values())
    assert len({round(a.energies[0], 4) for a in arms.values()}) == 3
    ends = [a.energies[-1] for a in arms.values()]
    assert max(ends) - min(ends) < 0.002


def test_an_arm_must_end_as_the_molecule_of_the_start():
    hydrogen = Molecule.from_smiles("[H][H]")
    apart = Molecule(hydrogen.numbers, hydrogen.positions * 1.7, formal_charges=(0, 0))
    lost = relaxed_from("diffusion", apart, hydrogen)
    assert not lost.converged
    assert lost.remarks.startswith("identity lost: bond H1–H2 formed")
    assert excess_energies([lost]) == [None]


def test_what_breaks_down_is_reported_and_a_broken_machine_is_not(monkeypatch):
    def fail(error):
        def relax(*_, **__):
            raise error

        return relax

    water = Molecule.from_smiles("O")
    monkeypatch.setattr(speedup_units, "relax_with", fail(MemoryError("too large")))
    assert relaxed_from("diffusion", water, water).remarks == "MemoryError: too large"
    for error in (OSError("no space left"), ImportError("no such library")):
        monkeypatch.setattr(speedup_units, "relax_with", fail(error))
        with pytest.raises(type(error), match="no s"):
            relaxed_from("diffusion", water, water)


def test_a_level_that_does_not_cover_the_molecule_is_reported_not_raised():
    water = Molecule.from_smiles("O")
    unknown = DFTSettings(xc="pbe", basis="no-such-basis")
    failed = relaxed_from("diffusion", water, water, unknown)
    assert not failed.converged
    assert "no-such-basis" in failed.remarks
