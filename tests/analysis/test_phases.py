import ase
import numpy as np
import pytest
from ase.build import molecule
from paper.phases import RelaxationPhase, median_course, relaxation_phase, settling_place

from diffrelax.generation import Trajectory, judge
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule

LEVELS = np.array([8.0, 2.0, 0.4, 0.2, 0.1, 0.05])


def straight_path(settles_at: int = 2) -> tuple[ase.Atoms, Trajectory]:
    """Methanol, from a distorted geometry straight to its minimum."""
    start = Molecule.from_atoms(molecule("CH3OH"))
    end = relax_at_level(start, "gfn2-xtb", fmax=0.003).positions
    away = np.random.default_rng(0).normal(size=end.shape)
    positions = end + LEVELS[:, None, None] * away / 4
    numbers = np.tile(start.numbers, (len(LEVELS), 1))
    numbers[:settles_at, 0] = 7
    return ase.Atoms(start.numbers, end), Trajectory(LEVELS, numbers, positions, positions)


def test_elements_settle_where_they_change_last():
    assert settling_place(straight_path(3)[1]) == 3
    assert settling_place(straight_path(0)[1]) == 0


def test_on_a_straight_path_the_energies_are_those_of_the_line():
    atoms, trajectory = straight_path()
    phase = relaxation_phase(judge(atoms, trajectory), n_points=6)
    assert phase.settled == 0.4
    assert phase.levels.tolist() == [0.4, 0.2, 0.1, 0.05, 0.0]
    assert phase.energies[-1] == pytest.approx(0.0, abs=1e-3)
    assert (np.diff(phase.energies) < 0).all()
    assert phase.energies == pytest.approx(phase.line_energies, rel=0.02, abs=1e-3)


def test_points_are_counted_back_from_the_last_step():
    phase = relaxation_phase(judge(*straight_path(1)), n_points=2)
    assert phase.levels.tolist() == [2.0, 0.4, 0.05, 0.0]


def test_the_median_course_is_that_of_levels_that_most_have_reached():
    early = RelaxationPhase(
        2.0, np.array([2.0, 0.4, 0.0]), np.array([9.0, 5.0, 1.0]), np.array([9.0, 3.0, 1.0])
    )
    late = RelaxationPhase(0.4, np.array([0.4, 0.0]), np.array([7.0, 2.0]), np.array([7.0, 2.0]))
    gap = RelaxationPhase(0.4, np.array([0.4, 0.0]), np.array([np.nan, 0.5]), np.array([8.0, 0.5]))
    levels, energies, line_energies = median_course([early, late, gap])
    assert levels.tolist() == [0.4, 0.0]
    assert energies.tolist() == [7.0, 1.0]
    assert line_energies.tolist() == [7.0, 1.0]


def test_touching_atoms_leave_a_gap_and_not_an_end():
    atoms, trajectory = straight_path()
    trajectory.positions[3, 1] = trajectory.positions[3, 0]
    phase = relaxation_phase(judge(atoms, trajectory), n_points=6)
    assert np.isnan(phase.energies[1])
    assert np.isfinite(np.delete(phase.energies, 1)).all()


def test_what_is_no_molecule_has_no_relaxation_phase():
    with pytest.raises(ValueError, match="molecule with a trajectory"):
        relaxation_phase(judge(molecule("CH3")))
