"""A user's own generator and discriminator: torch modules, from Python or as FILE.py:NAME.

A class or function is called with the shape of images and the number of classes (0: not
conditional). Code of a file runs once in a process, and only if the call names it or trusts it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from advnets import config
from advnets.custom_code import CustomCode, digest, untrusted_code_error
from advnets.errors import RunError, UsageError
from advnets.models.conditional import Projected
from advnets.models.layers import LatentSampler, Prior, Shape, one_hot
from advnets.protocols import Generator as DrawsLatents
from advnets.protocols import Images, Latents, Logits, is_per_sample
from advnets.rng import RNG

Factory = Callable[[Shape, int], nn.Module]
"""A class or function that returns a model for a shape of images and a number of classes."""
_Spec = TypeVar("_Spec", config.CustomGenerator, config.CustomDiscriminator)

_factories: dict[tuple[str, str], Callable[[Shape, int], object]] = {}
"""The classes and functions that this process was given, by their name and digest."""
_CHECKED = 2
"""The number of images that a new model is called with, to check the shape of its output."""


class CustomGenerator(Projected, LatentSampler):
    """A user's generator `net`: it maps standard normal z of `net.latent_dim` values to images.

    A conditional one is called with z and the one-hot class. Random numbers that it draws from
    torch, as dropout does, are seeded by step, so that training resumes bit-exactly.
    """

    def __init__(self, net: nn.Module, latent_dim: int, classes: int = 0) -> None:
        super().__init__()
        self.net: nn.Module = net
        self.prior: Prior = Prior("normal", latent_dim)
        self.classes: int = classes
        self.latent_dim: int = latent_dim + classes

    def forward(self, z: Latents, rng: RNG | None = None) -> Images:
        """Return G(z), or G(z | y) of a z that ends in the one-hot class."""
        inputs = z.split((self.latent_dim - self.classes, self.classes), 1)
        with _seeded(rng, z.device):
            return cast(Tensor, self.net(*inputs[: 2 if self.classes else 1]))


class CustomDiscriminator(Projected, nn.Module):
    """A user's discriminator `net`: it maps images to one logit each.

    A conditional one is called with the images and their one-hot classes. Random numbers are seeded
    as those of the generator.
    """

    def __init__(self, net: nn.Module, classes: int = 0) -> None:
        super().__init__()
        self.net: nn.Module = net
        self.classes: int = classes
        self.per_sample: bool = is_per_sample(net)

    def forward(
        self, x: Images, rng: RNG | None = None, labels: Int[Tensor, " batch"] | None = None
    ) -> Logits:
        """Return the logits a(x), or a(x | y)."""
        y = one_hot(labels, self.classes, x)
        with _seeded(rng, x.device):
            logits = cast(Tensor, self.net(x) if y is None else self.net(x, y))
        return logits.flatten()


@contextmanager
def _seeded(rng: RNG | None, device: torch.device) -> Generator[None]:
    """Seed torch's random numbers within a block; without `rng`, always in the same way."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0 if rng is None else rng.torch_seed("module"))
        yield


def with_custom_models(
    run: config.Config,
    generator: str | Factory | None = None,
    discriminator: str | Factory | None = None,
) -> config.Config:
    """Return a config whose last stage has these models, given as FILE.py:NAME or from Python.

    This runs the files, and is therefore only for models that the user has given.

    Raises:
        UsageError: a file does not exist or fails, or the name is no class or function.
    """
    stage = run.stage
    if generator is not None:
        stage = replace(stage, generator=given_model(config.CustomGenerator(), generator))
    if discriminator is not None:
        given = given_model(config.CustomDiscriminator(), discriminator)
        stage = replace(stage, discriminator=given)
    return run.with_stage(stage)


def given_model(spec: _Spec, value: str | Factory) -> _Spec:
    """Return the config of a model that the user gives, and keep its class or function.

    Raises:
        UsageError: its file does not exist or fails, or it is no class or function.
    """
    if isinstance(value, str):
        code = CustomCode.read(value, _role(spec))
        given = replace(spec, source=code.source, digest=code.digest)
        if _identity(given) not in _factories:
            _register(given, code.run())
        return given
    name = getattr(value, "__qualname__", type(value).__name__)
    given = replace(spec, source=name, digest=digest(_source_text(value).encode()))
    _register(given, value)
    return given


def load_custom_models(run: config.Config, *, trust_code: bool) -> None:
    """Run the files that the config of a run names for its models, unless they were given.

    Raises:
        RunError: a model was not given and the code is not trusted; a file has changed since the
            run started; or the model was given from Python, and is not now.
    """
    for spec in custom_models(run):
        if _identity(spec) in _factories:
            continue
        if ".py:" not in spec.source:
            raise RunError(
                f"the run's {_role(spec)} is {spec.source}, which was given from Python; give the "
                f"same one again as {_role(spec)}= in Python"
            )
        if not trust_code:
            raise untrusted_code_error(_role(spec), spec.source)
        code = CustomCode.read(spec.source, _role(spec))
        code.check_digest(spec.digest)
        _register(spec, code.run())


def custom_models(
    run: config.Config,
) -> list[config.CustomGenerator | config.CustomDiscriminator]:
    """Return the user's own models in a config."""
    nets = [net for stage in run.stages for net in (stage.generator, stage.discriminator)]
    return [
        net for net in nets if isinstance(net, config.CustomGenerator | config.CustomDiscriminator)
    ]


def build_custom_generator(
    spec: config.CustomGenerator, shape: Shape, _mean_image: Tensor | None, classes: int
) -> nn.Module:
    """Return the generator that the user's class or function builds.

    One that draws its own latents, by a method `latent(n, rng)`, is used as it is.

    Raises:
        UsageError: building or calling it fails, or its images have another shape.
    """
    net = _build(spec, shape, classes)
    if isinstance(net, DrawsLatents):
        return net
    latent_dim = getattr(net, "latent_dim", None)
    if not isinstance(latent_dim, int) or latent_dim < 1:
        raise UsageError(
            f"{spec.source} has latent_dim {latent_dim!r}; set self.latent_dim to the number of "
            "values of z, at least 1"
        )
    _check_output(spec, net, [(latent_dim,), (classes,)][: 2 if classes else 1], shape)
    return CustomGenerator(net, latent_dim, classes)


def build_custom_discriminator(
    spec: config.CustomDiscriminator, shape: Shape, classes: int
) -> nn.Module:
    """Return the discriminator that the user's class or function builds.

    Raises:
        UsageError: building or calling it fails, or it does not return one logit for each image.
    """
    net = _build(spec, shape, classes)
    _check_output(spec, net, [shape, (classes,)][: 2 if classes else 1], ())
    return CustomDiscriminator(net, classes)


def _register(spec: config.CustomModel, value: object) -> None:
    if not callable(value) or isinstance(value, nn.Module):
        raise UsageError(
            f"{spec.source or 'the model'} is a {type(value).__name__}; give a class or a function "
            "that is called with (shape, classes) and returns a torch module"
        )
    _factories[_identity(spec)] = cast(Callable[[Shape, int], object], value)


def _identity(spec: config.CustomModel) -> tuple[str, str]:
    return spec.source.rpartition(":")[2], spec.digest


def _role(spec: config.CustomModel) -> str:
    return "generator" if isinstance(spec, config.CustomGenerator) else "discriminator"


def _source_text(value: Factory) -> str:
    """Return the source of a class or function, or of a class's methods; "" if there is none."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):  # a class in a notebook has no source as a whole
        pass
    try:
        return "".join(inspect.getsource(m) for m in vars(value).values() if inspect.isfunction(m))
    except (OSError, TypeError):
        return ""


def _build(spec: config.CustomModel, shape: Shape, classes: int) -> nn.Module:
    factory = _factories.get(_identity(spec))
    if factory is None:
        raise untrusted_code_error(_role(spec), spec.source)
    try:
        net = factory(shape, classes)
    except Exception as error:
        if torch.get_default_device().type != "meta" or isinstance(error, UsageError):
            raise _failure(spec, f"for images of {shape} and {classes} classes", error) from error
        with torch.device("cpu"):  # some code needs numbers, which meta tensors lack
            return _build(spec, shape, classes)
    if not isinstance(net, nn.Module):
        raise UsageError(f"{spec.source} returned a {type(net).__name__}; return a torch.nn.Module")
    return net


def _check_output(
    spec: config.CustomModel,
    net: nn.Module,
    input_shapes: Sequence[tuple[int, ...]],
    output_shape: tuple[int, ...],
) -> None:
    """Check that a model maps a batch of inputs to outputs of a shape; logits are flattened.

    Raises:
        UsageError: it fails, or its output has another shape.
    """
    parameter = next(net.parameters(), None)
    device = None if parameter is None else parameter.device
    inputs = [torch.zeros(_CHECKED, *shape, device=device) for shape in input_shapes]
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output: object = net.eval()(*inputs)
    except Exception as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        raise _failure(spec, f"on a batch of shape {shapes}", error) from error
    finally:
        net.train()
    found = output.shape if isinstance(output, Tensor) else type(output).__name__
    if isinstance(output, Tensor) and not output_shape:
        found = output.flatten().shape
    expected = (_CHECKED, *output_shape)
    if found != expected:
        shown = tuple(found) if isinstance(found, torch.Size) else found
        raise UsageError(
            f"{spec.source} returned {shown} for a batch of {_CHECKED}, expected shape {expected}; "
            "build it for the shape that it is called with"
        )


def _failure(spec: config.CustomModel, when: str, error: Exception) -> Exception:
    """Return the error of a user's model that failed; of memory that ran out, the error itself."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate" in str(error):
        return error
    return UsageError(
        f"{spec.source} failed {when} ({type(error).__name__}: {error}); fix it, and test it alone"
    )
