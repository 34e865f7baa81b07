import pytest
import torch

from diffrelax.diffusion.reading import (
    Calibration,
    ErrorBound,
    Route,
    relax_by_reading,
    root_mean_square,
)
from diffrelax.diffusion.schedule import LARGEST_STEP, RelaxationSchedule, denoise_as
from diffrelax.network.network import Context

NUMBERS = torch.tensor([[8, 1, 1, 0], [6, 8, 1, 1], [6, 8, 1, 1]])
MINIMA = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0)) * (NUMBERS > 0)[..., None]
UNKNOWN = torch.full((3,), -1)
KNOWN = torch.zeros(3, dtype=torch.int64)
SCHEDULE = RelaxationSchedule(bridge=(0.1, 0.05), polish=(0.02, 0.01))
CALIBRATION = Calibration(
    settled=0.003,
    near=0.008,
    unseen=0.2,  # as the first releases have it
    after_schedule=ErrorBound(scale=0.5, exponent=0.5),
)


ROUTES = [Route(SCHEDULE, CALIBRATION.after_schedule)]


class Oracle:
    """Knows the minima, and is off by a share of the noise level."""

    def __init__(self, minima, off=0.0):
        self.minima, self.off, self.seen = minima, off, []

    def __call__(self, numbers, positions, sigma, bridge, context=None):
        self.seen.append((len(numbers), float(sigma[0]), bool(bridge[0])))
        places = [int((MINIMA - p).square().sum((1, 2)).argmin()) for p in positions]
        real = (numbers > 0)[..., None]
        return self.minima[places] + self.off * sigma[:, None, None] * real


def displaced(*levels):
    real = (NUMBERS > 0)[..., None]
    noise = torch.randn(MINIMA.shape, generator=torch.Generator().manual_seed(1)) * real
    noise /= root_mean_square(noise, NUMBERS)[:, None, None]
    return MINIMA + torch.tensor(levels)[:, None, None] * noise


def test_each_geometry_is_relaxed_as_far_as_its_reading_asks_for():
    starts, oracle = displaced(0.002, 0.005, 0.05), Oracle(MINIMA)
    relaxed = relax_by_reading(oracle, NUMBERS, starts, ROUTES, CALIBRATION, UNKNOWN)
    torch.testing.assert_close(relaxed.positions[0], starts[0])
    torch.testing.assert_close(relaxed.positions[1:], MINIMA[1:])
    assert relaxed.n_evaluations.tolist() == [2, 4, 7]
    assert relaxed.noise_level.tolist() == pytest.approx([0.0, 0.02, 0.1])
    assert oracle.seen == [
        (3, pytest.approx(0.08), False),
        (3, pytest.approx(0.01), False),
        (1, pytest.approx(0.02), False),
        (1, pytest.approx(0.01), False),
        (1, pytest.approx(0.1), True),
        (1, pytest.approx(0.05), True),
        (1, pytest.approx(0.02), False),
        (1, pytest.approx(0.01), False),
        (1, pytest.approx(0.08), False),
    ]


def test_an_error_of_one_atom_is_seen_in_a_large_molecule():
    minimum = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(2))
    start = minimum.clone()
    start[0, 7, 0] += 0.02  # a root mean square of 1.8 mÅ
    numbers = torch.full((1, 40), 6)

    def oracle(numbers, positions, sigma, bridge, context=None):
        return minimum

    relaxed = relax_by_reading(oracle, numbers, start, ROUTES, CALIBRATION, UNKNOWN[:1])
    torch.testing.assert_close(relaxed.positions, minimum)
    assert relaxed.n_evaluations.tolist() == [4]


def test_what_is_known_to_be_far_is_not_read():
    starts, oracle = displaced(0.002, 0.005, 0.05), Oracle(MINIMA)
    known = torch.tensor([0, -1, -1])
    relaxed = relax_by_reading(oracle, NUMBERS, starts, ROUTES, CALIBRATION, known)
    assert relaxed.n_evaluations.tolist() == [4, 4, 7]
    assert relaxed.noise_level.tolist() == pytest.approx([0.1, 0.02, 0.1])
    assert [n for n, *_ in oracle.seen] == [2, 2, 1, 1, 2, 2, 2, 2, 1]
    torch.testing.assert_close(relaxed.positions, MINIMA)
    again = relax_by_reading(oracle, NUMBERS, starts, ROUTES, CALIBRATION, KNOWN)
    assert again.n_evaluations.tolist() == [4, 4, 4]


def test_what_reads_as_far_is_settled_first():
    starts, asked = displaced(0.002, 0.005, 0.05), []

    def settle(far, positions):
        asked.append(far.tolist())
        return torch.where(far[:, None, None], MINIMA + 0.01, positions), KNOWN

    oracle = Oracle(MINIMA)
    relax_by_reading(oracle, NUMBERS, starts, ROUTES, CALIBRATION, UNKNOWN, settle=settle)
    assert asked == [[False, False, True]]
    known = torch.tensor([-1, -1, 0])
    relax_by_reading(oracle, NUMBERS, starts, ROUTES, CALIBRATION, known, settle=settle)
    assert len(asked) == 1


def test_each_known_start_follows_its_own_route():
    class ByStart(Oracle):
        def __call__(self, numbers, positions, sigma, bridge, context=None):
            starts.append(context.start.tolist())
            return super().__call__(numbers, positions, sigma, bridge)

    starts: list[list[int]] = []
    given = displaced(0.05, 0.03, 0.02)
    one = RelaxationSchedule(bridge=(0.03,), polish=())
    routes = [
        *ROUTES,
        Route(one, ErrorBound(scale=2.0, exponent=1.0)),
        Route(RelaxationSchedule(bridge=(), polish=()), None),
    ]
    context = Context(*torch.zeros(3, 3, dtype=torch.int64))
    relaxed = relax_by_reading(
        ByStart(MINIMA), NUMBERS, given, routes, CALIBRATION, torch.tensor([0, 1, 2]), context
    )
    torch.testing.assert_close(relaxed.positions[:2], MINIMA[:2])
    torch.testing.assert_close(relaxed.positions[2], given[2])
    assert relaxed.noise_level.tolist() == pytest.approx([0.1, 0.03, 0.0])
    assert relaxed.n_evaluations.tolist() == [4, 1, 0]
    assert starts == [[0], [0], [0], [0], [1]]
    assert float(relaxed.error_bound[1]) == pytest.approx(2 * 4)  # by its size
    assert relaxed.error_bound[2].isnan()


def test_what_is_not_at_a_minimum_is_led_to_a_better_start_where_there_is_one():
    asked = []

    def settle(far, positions):
        asked.append(far.tolist())
        return positions, far.long()

    routes = [*ROUTES, Route(RelaxationSchedule(bridge=(0.03,), polish=()), None)]
    starts = displaced(0.002, 0.005, 0.05)
    context = Context(*torch.zeros(3, 3, dtype=torch.int64))
    relaxed = relax_by_reading(
        Oracle(MINIMA), NUMBERS, starts, routes, CALIBRATION, UNKNOWN, context, settle
    )
    assert asked == [[False, True, True]]
    assert relaxed.noise_level.tolist() == pytest.approx([0.0, 0.03, 0.03])


def test_a_reading_that_is_no_number_settles_nothing():
    class Broken(Oracle):
        def __call__(self, *given):
            return torch.full_like(super().__call__(*given), torch.nan)

    relaxed = relax_by_reading(Broken(MINIMA), NUMBERS, MINIMA, ROUTES, CALIBRATION, UNKNOWN)
    assert relaxed.noise_level.tolist() == pytest.approx([0.1] * 3) and relaxed.lost.all()


def test_the_error_is_bounded_by_how_far_the_first_estimate_was_off_where_there_was_one():
    starts = displaced(0.002, 0.005, 0.05)
    relaxed = relax_by_reading(
        Oracle(MINIMA, off=0.25), NUMBERS, starts, ROUTES, CALIBRATION, UNKNOWN
    )
    moved = 0.25 * (0.1 - 0.01)
    expected = [0.2, 0.2, 0.5 * moved**0.5]
    assert relaxed.error_bound.tolist() == pytest.approx(expected, rel=1e-4)
    by_size = CALIBRATION.model_copy(update={"unseen": ErrorBound(scale=0.1, exponent=0.5)})
    relaxed = relax_by_reading(Oracle(MINIMA, off=0.25), NUMBERS, starts, ROUTES, by_size, UNKNOWN)
    expected = [0.1 * 3**0.5, 0.1 * 4**0.5, 0.5 * moved**0.5]
    assert relaxed.error_bound.tolist() == pytest.approx(expected, rel=1e-4)


class Blinkered(Oracle):
    """Sees nothing to correct at low noise, whatever the start, and may run away at high noise."""

    def __init__(self, minima, step):
        super().__init__(minima)
        self.step = step

    def __call__(self, numbers, positions, sigma, bridge, context=None):
        if float(sigma[0]) < 0.03:
            return positions
        if self.step:
            return positions + self.step * (numbers > 0)[..., None]
        return super().__call__(numbers, positions, sigma, bridge)


@pytest.mark.parametrize(("step", "lost"), [(0.0, False), (0.07, False), (0.09, True)])
def test_a_start_that_is_off_by_many_levels_is_seen_and_so_is_an_end(step, lost):
    starts, none = displaced(0.0, 0.0, 0.1)[2:], UNKNOWN[:1]
    denoiser = Blinkered(MINIMA, step)
    relaxed = relax_by_reading(denoiser, NUMBERS[2:], starts, ROUTES, CALIBRATION, none)
    assert relaxed.n_evaluations.tolist() == [7]
    assert relaxed.lost.tolist() == [lost]
    again = relax_by_reading(denoiser, NUMBERS[2:], starts, ROUTES, CALIBRATION, KNOWN[:1])
    assert again.lost.tolist() == [False]  # what a force field gave is no unknown start


def test_a_start_cannot_be_settled_and_far_at_once():
    with pytest.raises(ValueError, match="settled must not be larger than near"):
        Calibration.model_validate(CALIBRATION.model_dump() | {"settled": 0.02})


def test_a_wild_step_is_bounded_atom_by_atom():
    astray = MINIMA + torch.tensor([[100.0, 0, 0]]) * (NUMBERS == 8)[..., None]
    end = denoise_as(Oracle(astray), NUMBERS, bridge=False)(MINIMA, 0.01)
    distance = (end - MINIMA).norm(dim=-1)
    expected = LARGEST_STEP * 0.01 * (NUMBERS == 8)
    torch.testing.assert_close(distance, expected, atol=1e-5, rtol=1e-5)
