"""Distributions by name and options, opened as a source."""

import math
from dataclasses import replace

import numpy as np
import pytest

from advnets.data import spec
from advnets.data.synthetic.manifolds import Moons, Pinwheel, Spiral
from advnets.data.synthetic.mixtures import Gaussian, Grid, Mixture, Ring, Uniform
from advnets.data.synthetic.registry import DISTRIBUTIONS, HELD_OUT, open_distribution
from advnets.errors import UnknownNameError, UsageError
from advnets.rng import RNG


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gaussian", "", Gaussian()),
        ("gaussian", "dims=2,mean=0/1,sd=2,rho=-.5", Gaussian(2, (0.0, 1.0), (2.0,), -0.5)),
        ("mixture", "means=-2/3", Mixture(((-2.0,), (3.0,)))),
        ("mixture", "means=0:1/2:3,sds=1/2", Mixture(((0.0, 1.0), (2.0, 3.0)), (1.0, 2.0))),
        ("mixture", "means=0:1,weights=3", Mixture(((0.0, 1.0),), weights=(3.0,))),
        ("mixture", "means=4", Mixture(((4.0,),))),
        ("uniform", "dims=2,low=-1/0,high=2", Uniform(2, (-1.0, 0.0), (2.0,))),
        ("ring", "modes=9,sd=0.02", Ring(9, sd=0.02)),
        ("grid", "side=3,spacing=1,n=500", Grid(3, 1.0, n=500)),
        ("spiral", "arms=3,turns=1.5", Spiral(3, 1.5)),
        ("moons", "sd=.1,seed=4", Moons(0.1, seed=4)),
        ("pinwheel", "blades=6,twist=-1", Pinwheel(6, twist=-1.0)),
    ],
)
def test_typed_options_are_parsed(name, text, expected):
    """Options after the name set the fields of the distribution."""
    assert spec.parse_options(text, DISTRIBUTIONS[name], name) == expected


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_formatted_options_can_be_typed(name):
    """The formatted defaults parse to the defaults, and every class has a description."""
    kind = DISTRIBUTIONS[name]
    assert spec.parse_options(spec.format_options(kind), kind, name) == kind()
    assert kind.description
    assert {"n", "seed"} <= {
        option.partition("=")[0] for option in spec.format_options(kind).split(",")
    }


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("ring", "modes=0", "modes is 0; it must be 1 to 10,000"),
        ("ring", "sd=0", "sd is 0.0; it must be 0.000001 to 1,000,000"),
        ("ring", "radius=-1", "radius is -1.0"),
        (
            "ring",
            "radius=1000,sd=0.0001",
            "to be resolved by float32 points with coordinates of 1000, got 0.0001",
        ),
        ("ring", "n=0", "n is 0; it must be 1 to 10,000,000"),
        ("ring", "n=20000000", "n is 20000000"),
        ("ring", "seed=-1", "seed is -1; it must be at least 0"),
        ("grid", "side=101", "side is 101; it must be 1 to 100"),
        ("grid", "spacing=0", "spacing is 0.0"),
        ("gaussian", "rho=.5", "rho must be 0 with dims=1, got 0.5; set dims=2"),
        ("gaussian", "dims=2,rho=1", "rho is 1.0; it must be -0.999999 to 0.999999"),
        ("gaussian", "mean=1/2", "mean must have one number, got 2"),
        ("gaussian", "dims=2,sd=1/2/3", "sd must have one number or 2, got 3"),
        ("gaussian", "mean=2000000", "mean is 2000000.0; it must be -1,000,000 to 1,000,000"),
        (
            "gaussian",
            "mean=1000,sd=1e-5",
            "sd must be at least 0.00095 to be resolved by float32 points with coordinates of 1000",
        ),
        ("uniform", "low=1,high=1", "low must be less than high, got low=(1.0,) and high=(1.0,)"),
        ("uniform", "dims=2,low=0/5,high=3", "got low=(0.0, 5.0) and high=(3.0,)"),
        ("uniform", "low=1000,high=1000.0001", "coordinates of 1000, got 0.0001"),
        ("mixture", "means=1:2/3", "of [1, 2] coordinates; write means=-2/3 or means=0:1/2:3"),
        ("mixture", "means=1:2:3", "got 1 of [3] coordinates"),
        ("mixture", "means=1e9", "means must be -1,000,000 to 1,000,000, got 1000000000.0"),
        ("mixture", "means=1/2/3,sds=1/2", "sds must have one number or 3, got 2"),
        ("mixture", "weights=0", "weights is 0.0"),
        ("spiral", "arms=0", "arms is 0"),
        ("spiral", "turns=0", "turns is 0.0; it must be 0.01 to 100"),
        ("spiral", "inner=1", "inner must be at least 0 and less than radius (1.0), got 1.0"),
        ("spiral", "inner=-.1", "less than radius (1.0), got -0.1"),
        ("moons", "sd=-1", "sd is -1.0"),
        ("pinwheel", "blades=101", "blades is 101; it must be 1 to 100"),
        ("pinwheel", "twist=101", "twist is 101.0; it must be -100 to 100"),
        ("pinwheel", "width=0", "width is 0.0"),
    ],
)
def test_invalid_options_are_refused(name, text, problem):
    """The error names the option and its valid values."""
    with pytest.raises(UsageError) as caught:
        spec.parse_options(text, DISTRIBUTIONS[name], name)
    assert problem in str(caught.value)


def test_nan_and_infinity_are_refused():
    """NaN and infinity are refused from Python too."""
    for value in (math.nan, math.inf):
        for wrong in (
            lambda value=value: Ring(sd=value),
            lambda value=value: Gaussian(mean=(value,)),
            lambda value=value: Mixture(((value,),)),
            lambda value=value: Uniform(high=(value,)),
            lambda value=value: Spiral(inner=value),
            lambda value=value: Pinwheel(twist=value),
        ):
            with pytest.raises(UsageError):
                wrong()


def test_a_mixture_without_means_is_refused():
    """At least one mean is required."""
    with pytest.raises(UsageError, match=r"means must be 1 to 10,000 points, .* got 0 of"):
        Mixture(means=())


def test_unknown_option_and_dims():
    """The error names the nearest options; three dimensions are not supported."""
    with pytest.raises(UnknownNameError, match="did you mean modes"):
        spec.parse_options("mode=3", Ring, "ring")
    with pytest.raises(UnknownNameError, match="no value of gaussian: dims is called '3'"):
        spec.parse_options("dims=3", Gaussian, "gaussian")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_open_distribution(name):
    """Points are images of shape (dims, 1, 1) and white level 1; modes are the labels."""
    distribution = replace(DISTRIBUTIONS[name](), n=500)
    splits = open_distribution(name, distribution)
    assert splits.name == name
    assert splits.distribution is distribution
    assert splits.shape == (distribution.dims, 1, 1)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [
        500,
        10_000,
        10_000,
    ]
    assert splits.train.white_level == 1
    assert splits.train.images.dtype == np.float32
    if distribution.num_modes == 1:
        assert splits.train.labels is None
        assert splits.classes == ()
    else:
        assert set(splits.valid.labels) == set(range(distribution.num_modes))
        assert splits.classes[-1] == f"mode {distribution.num_modes - 1}"


def test_splits_are_fixed_and_disjoint():
    """Equal options give equal points, a larger n only adds points, a seed changes them."""
    first, repeated = (open_distribution("ring", Ring(n=2000)) for _ in range(2))
    assert first.digest() == repeated.digest()
    assert open_distribution("ring", Ring(n=2000, seed=1)).digest() != first.digest()
    longer = open_distribution("ring", Ring(n=3000))
    np.testing.assert_array_equal(longer.train.images[:2000], first.train.images)
    points = [part.images[:1000] for part in (first.train, first.valid, first.test)]
    assert not any(np.array_equal(points[i], points[i - 1]) for i in range(3))
    expected = Ring().sample(HELD_OUT, RNG(0).fold_in("valid"))
    np.testing.assert_array_equal(first.valid.images[:, :, 0, 0], expected)
