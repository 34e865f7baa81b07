import pytest
import torch
from e3nn import o3
from torch.utils.flop_counter import FlopCounterMode

from diffrelax.network.config import NetworkConfig
from diffrelax.network.layer import rms_norm
from diffrelax.network.network import Context, EquivariantNetwork, centre

LEVELS = ("one", "two")


@pytest.fixture
def network():
    torch.manual_seed(0)
    config = NetworkConfig(
        levels=LEVELS, charges=(-1, 0, 1), channels=16, products=8, sent=8, layers=3
    )
    network = EquivariantNetwork(config, condition=4)
    torch.nn.init.normal_(network.readout.weight)
    for layer in network.layers:
        torch.nn.init.normal_(layer.film.weight)
    return network.eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    numbers = torch.tensor([1, 6, 7, 8, 9])[torch.randint(0, 5, (3, 9), generator=generator)]
    numbers[1, 7:] = 0
    positions = 2.5 * torch.randn(3, 9, 3, generator=generator) * (numbers > 0)[..., None]
    context = Context(torch.tensor([0, 1, 1]), torch.tensor([0, 1, -1]), torch.tensor([0, 0, 1]))
    return numbers, positions, torch.randn(3, 4, generator=generator), context


def test_rotations_reflections_and_translations_act_on_the_output(network, batch):
    numbers, positions, *rest = batch
    output = network(numbers, positions, *rest)
    assert output.std() > 0.1
    for matrix in (o3.rand_matrix(), -torch.eye(3), -o3.rand_matrix()):
        moved = positions @ matrix.T + torch.tensor([3.0, -1.0, 2.0])
        torch.testing.assert_close(
            network(numbers, moved, *rest), output @ matrix.T, atol=5e-5, rtol=5e-5
        )


def test_permutations_of_atoms_and_of_molecules_permute_the_output(network, batch):
    numbers, positions, condition, context = batch
    output = network(numbers, positions, condition, context)
    order = torch.tensor([3, 0, 8, 5, 1, 7, 2, 6, 4])
    permuted = network(numbers[:, order], positions[:, order], condition, context)
    torch.testing.assert_close(permuted, output[:, order], atol=1e-5, rtol=1e-5)
    turned = Context(*(part.flip(0) for part in context))
    permuted = network(numbers.flip(0), positions.flip(0), condition.flip(0), turned)
    torch.testing.assert_close(permuted, output.flip(0), atol=1e-5, rtol=1e-5)


def test_padding_and_the_company_in_the_batch_change_nothing(network, batch):
    numbers, positions, condition, context = batch
    one = Context(*(part[1:2] for part in context))
    alone = network(numbers[1:2, :7], positions[1:2, :7], condition[1:2], one)
    together = network(*batch)
    torch.testing.assert_close(alone, together[1:2, :7], atol=1e-5, rtol=1e-5)
    assert together[1, 7:].abs().max() == 0
    assert together.sum(1).abs().max() < 1e-4


def test_species_condition_level_and_charge_matter(network, batch):
    numbers, positions, condition, context = batch
    output = network(*batch)
    other = numbers.clone()
    other[0, 0] = 6 if numbers[0, 0] != 6 else 7
    for changed in (
        (other, positions, condition, context),
        (numbers, positions, -condition, context),
        (numbers, positions, condition, context._replace(level=1 - context.level)),
        (numbers, positions, condition, context._replace(charge=-context.charge)),
    ):
        assert (network(*changed) - output).abs().max() > 1e-3


def test_atoms_beyond_the_cutoff_do_not_matter_and_a_lone_atom_is_no_error(network):
    numbers = torch.tensor([[6, 8, 7]])
    condition, context = torch.ones(1, 4), Context(*torch.zeros(3, 1, dtype=torch.int64))
    far, further = torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)
    far[0, 1, 0], far[0, 2, 1] = 1.2, 5.01
    further[0, 1, 0], further[0, 2, 1] = 1.2, 60.0
    scalars = network.embedding(network.lookup[numbers])
    real = numbers > 0
    one, other = (
        network.features(scalars, positions, condition, real, context)
        for positions in (far, further)
    )
    torch.testing.assert_close(one[:, :, 0], other[:, :, 0])
    assert network(numbers[:, :1], far[:, :1], condition, context).abs().max() == 0


def test_what_enters_at_the_cutoff_enters_smoothly(network):
    numbers, condition = torch.tensor([[6, 8, 7]]), torch.ones(1, 4)
    context = Context(*torch.zeros(3, 1, dtype=torch.int64))
    outputs = []
    for distance in (4.98, 4.9999, 5.0001):
        positions = torch.tensor([[[0.0, 0, 0], [1.2, 0, 0], [-distance, 0, 0]]])
        outputs.append(network(numbers, positions, condition, context))
    assert (outputs[1] - outputs[2]).abs().max() < 1e-4
    assert (outputs[0] - outputs[2]).abs().max() < 1e-2


def test_what_the_network_has_not_learned_is_an_error(network, batch):
    numbers, positions, condition, context = batch
    with pytest.raises(IndexError):
        network(torch.full_like(numbers, 92), positions, condition, context)
    with pytest.raises(IndexError, match=r"not learned the charges \[-2\], only -1, \+0, \+1"):
        network(numbers, positions, condition, context._replace(charge=context.charge - 1))
    with pytest.raises(IndexError):
        network(numbers, positions, condition, context._replace(level=context.level + 1))
    with pytest.raises(ValueError, match="several levels of theory, choose one: one, two"):
        network(numbers, positions, condition)


def test_a_network_that_knows_more_begins_as_one_that_knows_less(network, batch):
    numbers, positions, condition, context = batch
    config = NetworkConfig(
        levels=("new", "two", "one"), charges=(0, 1, -1, 2), elements=(9, 8, 7, 6, 1, 16),
        channels=16, products=8, sent=8, layers=3,
    )  # fmt: skip
    grown = EquivariantNetwork(config, condition=4).eval()
    grown.begin_as(network)
    known = context._replace(level=2 - context.level)
    torch.testing.assert_close(
        grown(numbers, positions, condition, known), network(numbers, positions, condition, context)
    )
    smaller = EquivariantNetwork(NetworkConfig(channels=8), condition=4)
    with pytest.raises(RuntimeError):
        smaller.begin_as(network)


def test_cost_grows_with_the_atoms_and_not_with_their_square(network):
    """A chain has as many neighbours at each atom, however long it is."""
    condition, context = torch.ones(1, 4), Context(*torch.zeros(3, 1, dtype=torch.int64))
    multiplications = []
    for n in (50, 200):
        positions = 1.3 * torch.arange(n)[None, :, None] * torch.tensor([1.0, 0, 0])
        with FlopCounterMode(display=False) as counter:
            network(torch.full((1, n), 6), positions, condition, context)
        multiplications.append(counter.get_total_flops())
    assert multiplications[1] < 4.2 * multiplications[0]


def test_gradients_reach_all_weights(network, batch):
    network(*batch).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []


def test_rms_norm_does_not_blow_up_what_symmetry_makes_vanish():
    x = torch.zeros(9, 1, 4)
    x[0] = 3.0
    x[1:] = 1e-7
    normed = rms_norm(x)
    assert normed[1:].abs().max() < 1e-6
    assert normed.square().mean() == pytest.approx(1.0, rel=1e-4)


def test_centre_leaves_absent_atoms_at_zero():
    vectors = torch.arange(12.0).view(1, 4, 3)
    real = torch.tensor([[True, True, True, False]])
    centred = centre(vectors, real)
    assert centred.sum(1).abs().max() < 1e-6
    assert centred[0, 3].abs().max() == 0
