import pytest
import torch
from e3nn import o3

from diffrelax.network.config import DenseNetworkConfig
from diffrelax.network.dense import DenseNetwork
from diffrelax.network.dense_layer import rms_norm
from diffrelax.network.dense_pairs import PairBasis


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = DenseNetwork(DenseNetworkConfig(channels=16, radial=8, layers=3), condition=4)
    torch.nn.init.normal_(network.readout.weight)
    return network.eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    numbers = torch.tensor([1, 6, 7, 8, 9])[torch.randint(0, 5, (2, 9), generator=generator)]
    numbers[1, 7:] = 0
    positions = 1.5 * torch.randn(2, 9, 3, generator=generator) * (numbers > 0)[..., None]
    return numbers, positions, torch.randn(2, 4, generator=generator)


def test_rotations_reflections_and_translations_act_on_the_output(network, batch):
    numbers, positions, condition = batch
    output = network(numbers, positions, condition)
    assert output.std() > 0.1
    for matrix in (o3.rand_matrix(), -torch.eye(3), -o3.rand_matrix()):
        moved = positions @ matrix.T + torch.tensor([3.0, -1.0, 2.0])
        torch.testing.assert_close(
            network(numbers, moved, condition), output @ matrix.T, atol=5e-5, rtol=2e-5
        )


def test_permutations_of_atoms_and_of_molecules_permute_the_output(network, batch):
    numbers, positions, condition = batch
    output = network(numbers, positions, condition)
    order = torch.tensor([3, 0, 8, 5, 1, 7, 2, 6, 4])
    torch.testing.assert_close(
        network(numbers[:, order], positions[:, order], condition),
        output[:, order],
        atol=1e-5,
        rtol=1e-5,
    )
    torch.testing.assert_close(
        network(numbers.flip(0), positions.flip(0), condition.flip(0)),
        output.flip(0),
        atol=1e-5,
        rtol=1e-5,
    )


def test_padding_and_the_company_in_the_batch_change_nothing(network, batch):
    numbers, positions, condition = batch
    alone = network(numbers[1:, :7], positions[1:, :7], condition[1:])
    together = network(numbers, positions, condition)
    torch.testing.assert_close(alone, together[1:, :7], atol=1e-5, rtol=1e-5)
    assert together[1, 7:].abs().max() == 0
    assert together.sum(1).abs().max() < 1e-4


def test_species_and_condition_matter(network, batch):
    numbers, positions, condition = batch
    output = network(numbers, positions, condition)
    other = numbers.clone()
    other[0, 0] = 6 if numbers[0, 0] != 6 else 7
    assert (network(other, positions, condition)[0] - output[0]).abs().max() > 1e-3
    torch.nn.init.normal_(network.layers[0].film.weight)
    assert (network(numbers, positions, -condition) - output).abs().max() > 1e-3


def test_pair_basis_vanishes_smoothly_at_the_cutoff():
    basis = PairBasis(radial=6, coarse=3, cutoff=5.0)
    real = torch.ones(1, 2, dtype=torch.bool)
    sizes = []
    for distance in (4.5, 4.9, 5.0, 7.0):
        positions = torch.tensor([[[0.0, 0, 0], [0, 0, distance]]])
        sizes.append(max(float(b.abs().max()) for b in basis(positions, real)))
    assert sizes[0] > sizes[1] > 0
    assert sizes[2:] == [0, 0]


def test_rms_norm_does_not_blow_up_what_symmetry_makes_vanish():
    x = torch.zeros(1, 9, 1, 4)
    x[:, 0] = 3.0
    x[:, 1:] = 1e-7
    normed = rms_norm(x)
    assert normed[:, 1:].abs().max() < 1e-6
    assert normed.square().mean() == pytest.approx(1.0, rel=1e-4)
