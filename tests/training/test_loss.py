import pytest
import torch

from diffrelax.training.loss import denoising_loss

NUMBERS = torch.tensor([[6, 1, 1, 0]])
TARGET = torch.tensor([[[0.0, 0, 0], [1.1, 0, 0], [0, 1.1, 0], [0, 0, 0]]])
SIGMA = torch.tensor([0.1])


def test_no_error_no_loss():
    assert denoising_loss(NUMBERS, TARGET, TARGET, SIGMA, 2.0) == 0


def test_a_shift_costs_coordinates_but_no_pairs():
    moved = TARGET + 0.01
    loss = denoising_loss(NUMBERS, moved, TARGET, SIGMA, 1000.0)
    assert loss.item() == pytest.approx(0.5 * 0.1**2, rel=1e-4)


def test_absent_atoms_do_not_count():
    moved = TARGET.clone()
    moved[0, 3] += 100.0
    assert denoising_loss(NUMBERS, moved, TARGET, SIGMA, 2.0) == 0


def test_stretching_a_bond_costs_more_than_turning_it():
    stretched, turned = TARGET.clone(), TARGET.clone()
    stretched[0, 1, 0] += 0.01
    turned[0, 1, 2] += 0.01
    losses = [denoising_loss(NUMBERS, m, TARGET, SIGMA, 2.0) for m in (stretched, turned)]
    assert losses[0] > 5 * losses[1]


def test_loss_is_the_same_in_units_of_the_noise():
    small = denoising_loss(
        NUMBERS, TARGET + 0.001 * torch.eye(4)[None, :, :3], TARGET, SIGMA / 10, 2.0
    )
    large = denoising_loss(NUMBERS, TARGET + 0.01 * torch.eye(4)[None, :, :3], TARGET, SIGMA, 2.0)
    torch.testing.assert_close(small, large, rtol=1e-4, atol=0)
