import numpy as np
import pytest
import torch
from ase.build import molecule
from paper.learning import newton_agreement, relaxation_chain, step_agreement

from diffrelax.dft.hessian import rigid_motions
from diffrelax.diffusion.schedule import RelaxationSchedule, relax_positions
from diffrelax.molecule import Molecule

ETHANOL = molecule("CH3CH2OH").positions


def harmonic(seed=0):
    """A minimum, a geometry near it, and the Hessian and forces of a quadratic energy."""
    rng = np.random.default_rng(seed)
    rigid = rigid_motions(ETHANOL)
    internal = np.eye(27) - rigid @ rigid.T
    stiffness = np.diag(rng.uniform(0.5, 60, size=27))
    turn, _ = np.linalg.qr(rng.normal(size=(27, 27)))
    hessian = internal @ turn @ stiffness @ turn.T @ internal
    away = 1e-3 * (internal @ rng.normal(size=27)).reshape(-1, 3)
    here = ETHANOL + away
    forces = -(hessian @ away.ravel()).reshape(-1, 3)
    return here, away, forces, hessian


def test_the_step_to_the_minimum_is_the_newton_step_and_not_the_force():
    here, away, forces, hessian = harmonic()
    agreement = newton_agreement(-away, here, forces, hessian)
    assert agreement.with_newton == pytest.approx(1.0, abs=1e-3)
    assert agreement.length == pytest.approx(1.0, abs=1e-3)
    assert agreement.order == pytest.approx(1.0, abs=1e-2)
    assert agreement.with_force < 0.95


def test_steepest_descent_is_the_force_and_not_the_newton_step():
    here, _, forces, hessian = harmonic()
    agreement = newton_agreement(1e-3 * forces, here, forces, hessian)
    assert agreement.with_force == pytest.approx(1.0, abs=1e-6)
    assert agreement.with_newton < 0.95
    assert agreement.order == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize(("curvature", "counted"), [(-2.0, 2.0), (0.01, 0.05), (-0.01, 0.05)])
def test_a_newton_step_goes_down_every_mode_and_not_too_far_down_a_soft_one(curvature, counted):
    _, away, _, hessian = harmonic()
    force = away.ravel() / np.linalg.norm(away)
    across = np.eye(27) - np.outer(force, force)
    one_mode = across @ hessian @ across + curvature * np.outer(force, force)
    step = force.reshape(-1, 3)
    agreement = newton_agreement(step, ETHANOL, step, one_mode)
    assert agreement.with_newton == pytest.approx(1.0, abs=1e-6)
    assert agreement.length == pytest.approx(counted, rel=1e-3)


def test_rigid_motions_do_not_count():
    here, away, forces, hessian = harmonic()
    turning = np.cross([0.0, 0.0, 0.01], here - here.mean(axis=0))
    still = newton_agreement(-away, here, forces, hessian)
    moving = newton_agreement(-away + turning + 0.1, here, forces, hessian)
    assert moving.with_newton == pytest.approx(still.with_newton, abs=1e-6)


def test_a_chain_along_the_line_agrees_with_the_line():
    here, away, forces, _ = harmonic()
    chain = np.stack([here - share * away for share in (0.0, 0.25, 0.5, 0.75, 1.0)])
    found = step_agreement(chain, 1, 2, ETHANOL, forces)
    assert found.with_line.mean == pytest.approx(1.0, abs=1e-4)
    assert found.with_line.spread == pytest.approx(0.0, abs=1e-3)
    assert found.with_force.mean == pytest.approx(found.force_with_line.mean, abs=1e-3)
    assert step_agreement(chain, 1, 2, ETHANOL).with_line == found.with_line
    with pytest.raises(ValueError, match="no step 3 \\+ 2"):
        step_agreement(chain, 3, 2, ETHANOL, forces)


def test_a_chain_is_the_relaxation_step_by_step(model):
    start = Molecule.from_smiles("CCO")
    levels = (0.08, 0.04, 0.02, 0.01)
    chain = relaxation_chain(model, start, levels)
    assert chain.shape == (5, 9, 3)
    assert chain[0] == pytest.approx(start.positions, abs=1e-5)
    whole = relax_positions(
        model.denoiser,
        torch.tensor(start.numbers)[None],
        torch.tensor(start.positions, dtype=torch.float32)[None],
        RelaxationSchedule(bridge=(), polish=levels),
    )
    assert chain[-1] == pytest.approx(whole[0].numpy(), abs=1e-6)
    moves = np.linalg.norm(np.diff(chain, axis=0), axis=(1, 2))
    assert (moves > 0).all()
