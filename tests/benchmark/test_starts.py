import numpy as np
import pytest

from diffrelax.benchmark import starts
from diffrelax.benchmark.starts import (
    Arm,
    comparison_table,
    excess_energies,
    relax_from,
)
from diffrelax.clock import Time
from diffrelax.dft import DFTRelaxation, DFTSettings
from diffrelax.molecule import Molecule
from diffrelax.relaxation import Relaxation

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
    return Arm(start, 1.0, dft)


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
    assert "same minimum" in comparison_table(arms, excess_energies(arms)).splitlines()[3]


def test_arms_in_two_minima_have_their_own(butanes):
    trans, gauche = butanes
    arms = [
        arm(trans, (-9.99, -10.0)),
        arm(gauche, (-9.50, -9.96), start="mmff94"),
    ]
    assert excess_energies(arms) == pytest.approx([0.01, 0.46])
    assert "another minimum" in comparison_table(arms, excess_energies(arms))


def test_an_arm_that_did_not_converge_has_no_excess_and_says_why(butanes):
    arms = [
        arm(butanes[0], (-9.99, -10.0)),
        arm(
            butanes[0], (-9.5,), start="mmff94", converged=False, reason="not converged in 0 steps"
        ),
        Arm("uff", 0.0, None, "UFF lacks parameters"),
    ]
    assert excess_energies(arms)[1:] == [None, None]
    table = comparison_table(arms, excess_energies(arms)).splitlines()
    assert "not converged in 0 steps" in table[3]
    assert "UFF lacks parameters" in table[4]


def test_table_is_in_kcal_per_mol_and_counts_all_seconds(butanes):
    arms = [arm(butanes[0], (-10.0 + 0.0433641, -10.0))]
    cells = comparison_table(arms, excess_energies(arms)).splitlines()[2].split()
    assert cells == ["diffusion", "1.00", "2", "9", "3.0", "converged"]


def test_each_start_is_what_its_name_says():
    start = Molecule.from_smiles("O")
    moved = start.with_positions(start.positions * 1.02, start="diffusion")
    result = Relaxation("water", "relaxed", "", moved, start, time=Time(0.5, 0.5))
    arms = {s: relax_from(s, result, SETTINGS) for s in ("diffusion", "mmff94", "gfn2-xtb")}
    assert all(a.converged for a in arms.values())
    assert arms["diffusion"].seconds_before == 0.5
    assert arms["mmff94"].seconds_before == 0.0
    assert arms["gfn2-xtb"].seconds_before > 0.0
    assert len({round(a.dft.initial_energy, 4) for a in arms.values()}) == 3
    ends = [a.dft.energy for a in arms.values()]
    assert max(ends) - min(ends) < 0.002


def test_an_arm_must_end_as_the_molecule_of_the_start():
    hydrogen = Molecule.from_smiles("[H][H]")
    apart = Molecule(hydrogen.numbers, hydrogen.positions * 1.7, formal_charges=(0, 0))
    result = Relaxation("hydrogen", "relaxed", "", hydrogen, apart, time=Time(0.5, 0.5))
    lost = relax_from("diffusion", result, SETTINGS)
    assert not lost.converged
    assert lost.remarks.startswith("identity lost: bond H1–H2 formed")
    assert excess_energies([lost]) == [None]


def test_what_breaks_down_is_reported_and_a_full_disk_is_not(monkeypatch):
    def fail(error):
        def relax(*_, **__):
            raise error

        return relax

    water = Molecule.from_smiles("O")
    result = Relaxation("water", "relaxed", "", water, water)
    monkeypatch.setattr(starts, "relax_with", fail(MemoryError("too large")))
    assert relax_from("diffusion", result, SETTINGS).remarks == "MemoryError: too large"
    monkeypatch.setattr(starts, "relax_with", fail(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        relax_from("diffusion", result, SETTINGS)


def test_a_level_that_does_not_cover_the_molecule_is_reported_not_raised():
    start = Molecule.from_smiles("O")
    result = Relaxation("water", "relaxed", "", start, start, time=Time(0.5, 0.5))
    failed = relax_from("diffusion", result, DFTSettings(xc="pbe", basis="no-such-basis"))
    assert not failed.converged
    assert "no-such-basis" in failed.remarks
    with pytest.raises(ValueError, match="no geometry"):
        relax_from("diffusion", Relaxation("x", "failed", "not a SMILES", None, None), SETTINGS)
