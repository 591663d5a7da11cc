"""Custom generators and discriminators: torch modules, from Python or as FILE.py:NAME.

The class or function is called with the shape of images and the number of classes (0: not
conditional). The code of a file runs once per process, and only if the call names the file or sets
`trust_code`.
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
from advnets.protocols import Generator as LatentGenerator
from advnets.protocols import Images, Latents, Logits, is_per_sample
from advnets.rng import RNG

Factory = Callable[[Shape, int], nn.Module]
"""A class or function that returns a model for a shape of images and a number of classes."""
_Spec = TypeVar("_Spec", config.CustomGenerator, config.CustomDiscriminator)

_factories: dict[tuple[str, str], Callable[[Shape, int], object]] = {}
"""The classes and functions that were registered in this process, by their name and digest."""
_CHECK_BATCH_SIZE = 2
"""The batch size with which the output shape of a new model is checked."""


class CustomGenerator(Projected, LatentSampler):
    """A wrapper of a user's generator `net`, which maps z to images.

    z is standard normal with `net.latent_dim` dimensions; a conditional `net` is called with z and
    the one-hot class. The random numbers that `net` draws from torch, as dropout does, are seeded
    by the training step, so that training resumes bit-exactly.
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
    """A wrapper of a user's discriminator `net`, which returns one logit for each image.

    A conditional `net` is called with the images and their one-hot classes. Random numbers are
    seeded as in `CustomGenerator`.
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
    """Seed torch's random numbers within a block; without `rng`, with a constant seed."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0 if rng is None else rng.torch_seed("module"))
        yield


def with_custom_models(
    run: config.Config,
    generator: str | Factory | None = None,
    discriminator: str | Factory | None = None,
) -> config.Config:
    """Return the config with these models in its last stage, each FILE.py:NAME or a Python object.

    The code of the files is run: pass only models that the user named.

    Raises:
        UsageError: a file does not exist or fails, or a model is neither a class nor a function.
    """
    stage = run.stage
    if generator is not None:
        stage = replace(stage, generator=register_model(config.CustomGenerator(), generator))
    if discriminator is not None:
        net = register_model(config.CustomDiscriminator(), discriminator)
        stage = replace(stage, discriminator=net)
    return run.with_stage(stage)


def register_model(spec: _Spec, value: str | Factory) -> _Spec:
    """Register the class or function of a custom model, and return the model's config.

    Raises:
        UsageError: its file does not exist or fails, or it is neither a class nor a function.
    """
    if isinstance(value, str):
        code = CustomCode.read(value, _role(spec))
        registered = replace(spec, source=code.source, digest=code.digest)
        if _factory_key(registered) not in _factories:
            _add_factory(registered, code.run())
        return registered
    name = getattr(value, "__qualname__", type(value).__name__)
    registered = replace(spec, source=name, digest=digest(_source_text(value).encode()))
    _add_factory(registered, value)
    return registered


def load_custom_models(run: config.Config, *, trust_code: bool) -> None:
    """Run the files that a run's config names for its models, except for models registered before.

    Raises:
        RunError: a model is not registered and `trust_code` is off; its file has changed since the
            run started; or it was passed from Python, and has not been passed again.
    """
    for spec in custom_models(run):
        if _factory_key(spec) in _factories:
            continue
        if ".py:" not in spec.source:
            raise RunError(
                f"the run's {_role(spec)} is {spec.source}, which was passed from Python; pass the "
                f"same one again as {_role(spec)}= in Python"
            )
        if not trust_code:
            raise untrusted_code_error(_role(spec), spec.source)
        code = CustomCode.read(spec.source, _role(spec))
        code.check_digest(spec.digest)
        _add_factory(spec, code.run())


def check_custom_models(
    run: config.Config, generator: str | Factory | None, discriminator: str | Factory | None
) -> None:
    """Check by the digests of their code that models passed from Python are those of a run.

    Raises:
        RunError: the code of a model differs, or the run has no such custom model.
    """
    passed = with_custom_models(run, generator, discriminator)
    for role in ("generator", "discriminator"):
        stored, other = getattr(run.stage, role), getattr(passed.stage, role)
        if getattr(stored, "digest", None) != getattr(other, "digest", None):
            source = getattr(stored, "source", f"not a custom one ({type(stored).__name__})")
            raise RunError(
                f"the {role} given is not that of the run, which is {source}; give the class or "
                "function that the run was trained with, or leave it out"
            )


def custom_models(run: config.Config) -> list[config.CustomGenerator | config.CustomDiscriminator]:
    """Return the configs of the custom models in a run's config."""
    nets = [net for stage in run.stages for net in (stage.generator, stage.discriminator)]
    return [
        net for net in nets if isinstance(net, config.CustomGenerator | config.CustomDiscriminator)
    ]


def build_custom_generator(
    spec: config.CustomGenerator, shape: Shape, _mean_image: Tensor | None, classes: int
) -> nn.Module:
    """Return the generator that the user's class or function builds.

    A generator with a method `latent(n, rng)`, which draws its latents, is used without a wrapper.

    Raises:
        UsageError: building or calling it fails, it has no weights, or its images have the wrong
            shape or type or no gradient.
    """
    net = _build(spec, shape, classes)
    _check_weights(spec, net)
    if isinstance(net, LatentGenerator):
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
        UsageError: building or calling it fails, it has no weights, or it does not return one
            logit with a gradient for each image.
    """
    net = _build(spec, shape, classes)
    _check_weights(spec, net)
    _check_output(spec, net, [shape, (classes,)][: 2 if classes else 1], ())
    return CustomDiscriminator(net, classes)


def _add_factory(spec: config.CustomModel, value: object) -> None:
    """Register the class or function that builds a model.

    Raises:
        UsageError: it is neither a class nor a function.
    """
    if not callable(value) or isinstance(value, nn.Module):
        place = f", {spec.source}," if ".py:" in spec.source else ""
        instance = "an instance" if isinstance(value, nn.Module) else "an object"
        raise UsageError(
            f"{_role(spec)}{place} is {instance} of {type(value).__name__}; give a class or a "
            "function that is called with (shape, classes) and returns a torch module"
        )
    _factories[_factory_key(spec)] = cast(Callable[[Shape, int], object], value)


def _factory_key(spec: config.CustomModel) -> tuple[str, str]:
    """Return the name of a model's class or function, and the digest of its code."""
    return spec.source.rpartition(":")[2], spec.digest


def _role(spec: config.CustomModel) -> str:
    """Return generator or discriminator."""
    return "generator" if isinstance(spec, config.CustomGenerator) else "discriminator"


def _source_text(value: Factory) -> str:
    """Return the source code of a class (or of its methods) or function; "" if there is none."""
    try:
        return inspect.getsource(value)
    except (
        OSError,
        TypeError,
    ):  # in a notebook, the methods of a class have source code, it has not
        pass
    try:
        return "".join(inspect.getsource(m) for m in vars(value).values() if inspect.isfunction(m))
    except (OSError, TypeError):
        return ""


def _build(spec: config.CustomModel, shape: Shape, classes: int) -> nn.Module:
    """Call the class or function of a model; on the CPU if it cannot be called for device meta.

    Raises:
        RunError: the model is not registered.
        UsageError: the call fails, or does not return a torch module.
    """
    factory = _factories.get(_factory_key(spec))
    if factory is None:
        raise untrusted_code_error(_role(spec), spec.source)
    try:
        net = factory(shape, classes)
    except (Exception, SystemExit) as error:
        if torch.get_default_device().type != "meta" or isinstance(error, UsageError):
            raise _model_error(
                spec, f"for images of {shape} and {classes} classes", error
            ) from error
        with torch.device("cpu"):  # some code reads values, which meta tensors do not have
            return _build(spec, shape, classes)
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"{spec.source} returned an object of {type(net).__name__}; return a torch.nn.Module"
        )
    return net


def _check_weights(spec: config.CustomModel, net: nn.Module) -> None:
    """Check that a model has weights.

    Raises:
        UsageError: it has none.
    """
    if next(net.parameters(), None) is None:
        raise UsageError(
            f"{spec.source} has no weights, expected one or more parameters, such as those of a "
            "torch.nn.Linear; set layers as attributes of the module"
        )


def _check_output(
    spec: config.CustomModel,
    net: nn.Module,
    input_shapes: Sequence[tuple[int, ...]],
    output_shape: tuple[int, ...],
) -> None:
    """Call a model with a batch of zeros and check its output; flatten logits.

    Raises:
        UsageError: calling the model fails, or its output has the wrong shape or type, or no
            gradient.
    """
    # Call the model in evaluation mode, with random numbers that leave torch's generator unchanged.
    parameter = next(net.parameters(), None)
    device = None if parameter is None else parameter.device
    inputs = [torch.zeros(_CHECK_BATCH_SIZE, *shape, device=device) for shape in input_shapes]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            output: object = net.eval()(*inputs)
    except (Exception, SystemExit) as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        raise _model_error(spec, f"on a batch of shape {shapes}", error) from error
    finally:
        net.train()

    # Compare the shape of its output with the expected one.
    found = output.shape if isinstance(output, Tensor) else type(output).__name__
    if isinstance(output, Tensor) and not output_shape:
        found = output.flatten().shape
    expected = (_CHECK_BATCH_SIZE, *output_shape)
    if found != expected:
        shown = tuple(output.shape) if isinstance(output, Tensor) else found
        advice = "build it for the shape that it is called with"
        if not output_shape:
            advice = "return one logit for each image"
        raise UsageError(
            f"{spec.source} returned {shown} for a batch of {_CHECK_BATCH_SIZE}, expected shape "
            f"{expected}; {advice}"
        )

    # Check its type, and that it depends on weights, unless they are frozen.
    assert isinstance(output, Tensor)  # as it has a shape
    is_logit = not output_shape
    if not output.is_floating_point() or (not is_logit and output.dtype != torch.float32):
        raise UsageError(
            f"{spec.source} returned values of type {str(output.dtype).removeprefix('torch.')}, "
            "expected float32; convert them with .float(), and its weights too"
        )
    trainable = any(weight.requires_grad for weight in net.parameters())
    if trainable and not (output.requires_grad or torch.is_inference_mode_enabled()):
        what = "logits" if is_logit else "images"
        raise UsageError(
            f"{spec.source} returned {what} without a gradient, expected {what} that depend on "
            "its weights; leave out detach() and no_grad()"
        )


def _model_error(spec: config.CustomModel, when: str, error: BaseException) -> BaseException:
    """Return the error for a custom model that failed, or the error itself if memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate" in str(error):
        return error
    return UsageError(
        f"{spec.source} failed {when} ({type(error).__name__}: {error}); correct its code"
    )
