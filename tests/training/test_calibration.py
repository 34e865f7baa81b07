import numpy as np
import pytest
import torch

from diffrelax.diffusion.relaxation import RelaxationSchedule
from diffrelax.training.calibration import FEWEST, calibrate
from diffrelax.training.config import build_denoiser
from diffrelax.training.geometries import GeometrySet

SCHEDULE = RelaxationSchedule(bridge=(0.1,), polish=(0.02, 0.01))


@pytest.fixture
def many(geometries):
    return GeometrySet.join([geometries] * 3)


@pytest.fixture
def denoiser(config):
    torch.manual_seed(0)
    denoiser = build_denoiser(config)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return denoiser


def test_bounds_are_positive_and_readings_rise_from_minima_to_starts(many, denoiser):
    found = calibrate(denoiser, many, np.ones(len(many), dtype=bool), SCHEDULE)
    assert found.settled > 0
    assert found.near > 0
    assert found.after_step.scale > 0
    assert np.isfinite(found.after_schedule.exponent)


def test_nothing_is_made_of_few_molecules_or_without_a_bridge(many, denoiser):
    usable = np.arange(len(many)) < FEWEST - 1
    assert calibrate(denoiser, many, usable, SCHEDULE) is None
    plain = RelaxationSchedule(bridge=(), polish=(0.1, 0.02))
    assert calibrate(denoiser, many, np.ones(len(many), dtype=bool), plain) is None
