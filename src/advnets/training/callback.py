"""Callbacks, which observe a training: the console, trackers, and classes of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from advnets.config import Config
from advnets.custom_code import describe_exception
from advnets.errors import CallbackError, CustomCodeError, UnknownNameError, UsageError, warn_user


class Callback:
    """An observer of training; a subclass overrides the methods that it needs.

    Other objects that have some of these methods are callbacks too.

    The methods run in the training process between steps; their time is not counted in
    images_per_second. The training does not depend on them: its random numbers are keyed by step.
    """

    required: bool = True
    """Whether an exception stops the training, after a checkpoint is saved. If not, a warning is
    given once and the callback is not called again."""

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Handle the start of the training in a run directory, or its resumption after `step`.

        Args:
            run: the run directory.
            config: the resolved config.
            step: step that the training starts from.
        """

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Handle any event of events.jsonl; `on_log` and `on_evaluate` are for two kinds of them.

        Args:
            event: the event; its keys `kind` and `step` say what happened and when.
        """

    def on_step(self, step: int) -> None:
        """Handle the end of a step: k updates of D and one of G.

        Args:
            step: step that the training has reached.
        """

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Handle the means of losses and other metrics since the last log.

        Args:
            step: step that the training has reached.
            metrics: means by name, such as "d_real".
        """

    def on_samples(self, step: int, path: Path) -> None:
        """Handle a grid of samples, a PNG file.

        Args:
            step: step that the training has reached.
            path: the file.
        """

    def on_evaluate(self, step: int, scores: Mapping[str, Any]) -> None:
        """Handle the scores of the generator with the weights `scores["weights"]`.

        Args:
            step: step that the training has reached.
            scores: `metric`, the name; `weights`, "ema" or "last"; and the metric's values by name.
        """

    def on_checkpoint(self, step: int, path: Path) -> None:
        """Handle a checkpoint that was written.

        Args:
            step: step that the training has reached.
            path: the file.
        """

    def on_end(self, step: int, reason: str) -> None:
        """Handle the end of the training, complete or stopped.

        Args:
            step: step that the training has reached.
            reason: "done", "early stop", "stopped" by a signal, or why the last state is unusable.
        """


def as_callback(item: object, name: str) -> Callback:
    """Return a callback that calls the methods of an object, or the object if it is a callback.

    Args:
        item: an instance of `Callback`, or of a class that has some of its methods.
        name: the name of the argument, for messages.

    Raises:
        UsageError: it is a class, or has none of the methods.
        UnknownNameError: it has another method whose name begins with on_.
    """
    # Check its methods.
    methods = [m for m in dir(item) if m.startswith("on_") and callable(getattr(item, m, None))]
    known = [method for method in dir(Callback) if method.startswith("on_")]
    if isinstance(item, type):
        raise UsageError(f"{name} is the class {item.__name__}; give an instance of it")
    if not methods:
        raise UsageError(
            f"{name} is of type {type(item).__name__}; expected an advnets.Callback, an object "
            "with some of its methods, or the name of a tracker"
        )
    for method in methods:
        if method not in known:
            raise UnknownNameError(f"method of {name}", method, known)
    if isinstance(item, Callback):
        return item

    # Make a subclass of Callback, of the same name, with its methods.
    members: dict[str, object] = {method: staticmethod(getattr(item, method)) for method in methods}
    members["required"] = getattr(item, "required", True)
    return cast(Callback, type(type(item).__name__, (Callback,), members)())


class CallbackList(Callback):
    """A list of callbacks, called in order; the training is saved if one raises an exception."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks: list[Callback] = list(callbacks)
        self.error: CallbackError | CustomCodeError | None = None
        """The first exception of a required callback or a custom metric: the training saves and
        stops."""

    def check(self) -> None:
        """Raise the first exception of a required callback or a custom metric, if there was one.

        Raises:
            CallbackError: a callback raised it.
            CustomCodeError: a metric of the user raised it.
        """
        if self.error is not None:
            raise self.error

    def stop(self, error: CustomCodeError, step: int) -> None:
        """Request a stop because a custom metric failed at a step."""
        if self.error is None:
            self.error = CustomCodeError(
                f"{error} at step {step:,}; the training is saved: correct it, and resume"
            )
            self.error.__cause__ = error

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Call on_start of all callbacks."""
        self._call("on_start", step, run, config, step)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Call on_event of all callbacks, then on_log or on_evaluate for an event of that kind."""
        step, kind = event["step"], event["kind"]
        self._call("on_event", step, event)
        if kind in ("log", "evaluate"):
            content = {name: value for name, value in event.items() if name not in ("kind", "step")}
            self._call(f"on_{kind}", step, step, content)

    def on_step(self, step: int) -> None:
        """Call on_step of all callbacks."""
        self._call("on_step", step, step)

    def on_samples(self, step: int, path: Path) -> None:
        """Call on_samples of all callbacks."""
        self._call("on_samples", step, step, path)

    def on_checkpoint(self, step: int, path: Path) -> None:
        """Call on_checkpoint of all callbacks."""
        self._call("on_checkpoint", step, step, path)

    def on_end(self, step: int, reason: str) -> None:
        """Call on_end of all callbacks."""
        self._call("on_end", step, step, reason)

    def _call(self, method: str, step: int, *arguments: object) -> None:
        """Call a method of all callbacks; store the exception of a required one, drop others."""
        for callback in tuple(self.callbacks):
            try:
                getattr(callback, method)(*arguments)
            except Exception as error:
                name = type(callback).__name__
                raised = describe_exception(error)
                if callback.required:
                    self.error = self.error or CallbackError(name, method, step, raised)
                    self.error.__cause__ = error
                else:
                    self.callbacks.remove(callback)
                    warn_user(
                        f"{name} raised {raised!r} in {method} at step {step:,}; the training "
                        "continues without it"
                    )
