import torch
from e3nn import o3

from diffrelax.network.sphere import sphere_samples, spherical_harmonics


def test_harmonics_are_those_of_e3nn_to_the_last_bit():
    vectors = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    vectors[0] = 0.0  # an atom and itself
    for given in (vectors, vectors.double()):
        theirs = o3.spherical_harmonics([0, 1, 2], given, normalize=True, normalization="component")
        assert torch.equal(spherical_harmonics(given), theirs)


def test_product_on_the_sphere_is_the_clebsch_gordan_product():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(9, generator=generator)
    values, projection = sphere_samples()
    product = projection @ (values @ x).square()
    degrees = [slice(0, 1), slice(1, 4), slice(4, 9)]
    pole = o3.spherical_harmonics(
        [0, 1, 2], torch.tensor([0.0, 0.0, 1.0]), normalize=True, normalization="component"
    )
    expected = torch.zeros(9)
    for l3, out in enumerate(degrees):
        for l1, first in enumerate(degrees):
            for l2, second in enumerate(degrees):
                if (l1 + l2 + l3) % 2 or not abs(l1 - l2) <= l3 <= l1 + l2:
                    continue
                coefficients = o3.wigner_3j(l1, l2, l3)
                gaunt = torch.einsum(
                    "ijk,i,j,k", coefficients, pole[first], pole[second], pole[out]
                )
                coupled = torch.einsum("ijk,i,j->k", coefficients, x[first], x[second])
                expected[out] += gaunt * coupled
    torch.testing.assert_close(product, expected, atol=1e-5, rtol=1e-5)
