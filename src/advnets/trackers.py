"""Experiment trackers as callbacks: TensorBoard, Weights & Biases, MLflow and trackio.

Each logs the losses and other metrics of the training and its scores with their step, grids of
samples as images, and the config. A tracker that fails does not stop the training.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from advnets.config import Config
from advnets.config.serialize import flat, to_json
from advnets.errors import UnknownNameError, require
from advnets.evaluation.registry import METRICS
from advnets.training.callback import Callback

_NOT_CURVES = {"epoch", "seconds", "cpu_seconds", "images_per_second"}
"""The values of a log that are not tracked: they are no losses or metrics of the game."""

PROJECT = "advnets"
"""The default name of the project, which MLflow calls an experiment."""


class Tracker(Callback):
    """The base class of trackers; an exception in a tracker does not stop the training."""

    required = False

    def on_log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the metrics."""
        names = metrics.keys() - _NOT_CURVES
        self.log_scalars(step, _scalars(metrics, names, "train"))

    def on_evaluate(self, step: int, scores: Mapping[str, Any]) -> None:
        """Log the scores under the name of the weights."""
        names = METRICS[scores["metric"]].values.keys()
        self.log_scalars(step, _scalars(scores, names, f"eval/{scores['weights']}"))

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log scalars by name; each tracker implements it."""
        raise NotImplementedError


def _scalars(metrics: Mapping[str, Any], names: Set[str], prefix: str) -> dict[str, float]:
    """Return the numbers of these names, with a prefix before them."""
    return {
        f"{prefix}/{name}": value
        for name, value in metrics.items()
        if name in names and isinstance(value, int | float)
    }


def _flat_config(config: Config) -> dict[str, Any]:
    """Return the options of a config by dotted names, such as stages.0.game.r1."""
    return flat(to_json(config))


def _run_name(run: Path, step: int) -> str:
    """Return the name of a run directory, and the step that it was resumed from."""
    return run.name if step == 0 else f"{run.name} from step {step:,}"


class TensorBoard(Tracker):
    """TensorBoard files in the folder tensorboard/ of the run: `tensorboard --logdir runs`."""

    def __init__(self) -> None:
        require("tensorboard", "tensorboard")
        self.writer: Any = None

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Open an event file; events after `step` are purged, as these steps are trained again."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
        lines = [f"    {name}: {value}" for name, value in _flat_config(config).items()]
        self.writer.add_text("config", "\n".join(lines), step)

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add the scalars, and write them to the file."""
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def on_samples(self, step: int, path: Path) -> None:
        """Add the grid of samples."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        self.writer.add_image("samples", pixels, step, dataformats="HWC")

    def on_end(self, step: int, reason: str) -> None:  # noqa: ARG002
        """Close the file."""
        self.writer.close()


class WandB(Tracker):
    """Weights & Biases; WANDB_MODE=offline keeps the run in the run directory."""

    def __init__(self) -> None:
        self.wandb: Any = require("wandb", "wandb")
        self.run: Any = None

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Start a run; a resumed training is a new run in the group of the run directory."""
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=_run_name(run, step),
            group=run.name,
            dir=str(run),
            config=_flat_config(config),
        )

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the scalars."""
        self.run.log(dict(scalars), step=step)

    def on_samples(self, step: int, path: Path) -> None:
        """Log the grid of samples."""
        self.run.log({"samples": self.wandb.Image(str(path))}, step=step)

    def on_end(self, step: int, reason: str) -> None:  # noqa: ARG002
        """Store why the training ended, and finish the run."""
        self.run.summary["reason"] = reason
        self.run.finish()


class MLflow(Tracker):
    """MLflow, at the server or folder of MLFLOW_TRACKING_URI, or else in the folder ./mlruns."""

    def __init__(self) -> None:
        self.mlflow: Any = require("mlflow", "mlflow")

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Start a run with the name of the run directory, and log the config as parameters."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder needs no database
        if not self.mlflow.tracking.is_tracking_uri_set():
            self.mlflow.set_tracking_uri(Path("mlruns").absolute().as_uri())
        self.mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        self.mlflow.start_run(run_name=run.name)
        self.mlflow.log_params({**_flat_config(config), "first_step": step})

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the scalars; in names, slashes become dots, and invalid characters spaces."""
        allowed = {
            re.sub(r"[^\w\-.: ]", " ", name.replace("/", ".")).strip(): value
            for name, value in scalars.items()
        }
        self.mlflow.log_metrics(allowed, step=step)

    def on_samples(self, step: int, path: Path) -> None:  # noqa: ARG002
        """Log the grid of samples as an artifact."""
        self.mlflow.log_artifact(str(path), "samples")

    def on_end(self, step: int, reason: str) -> None:  # noqa: ARG002
        """Tag the run with why the training ended, and end it."""
        self.mlflow.set_tag("reason", reason)
        self.mlflow.end_run("FINISHED" if reason in ("done", "early stop") else "KILLED")


class Trackio(Tracker):
    """trackio, a local dashboard: `trackio show --project advnets`."""

    def __init__(self) -> None:
        self.trackio: Any = require("trackio", "trackio")

    def on_start(self, run: Path, config: Config, step: int) -> None:
        """Start a run with the name of the run directory."""
        name = _run_name(run, step)
        self.trackio.init(project=PROJECT, name=name, config=_flat_config(config))

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the scalars."""
        self.trackio.log(dict(scalars), step=step)

    def on_samples(self, step: int, path: Path) -> None:
        """Log the grid of samples."""
        self.trackio.log({"samples": self.trackio.Image(str(path))}, step=step)

    def on_end(self, step: int, reason: str) -> None:  # noqa: ARG002
        """Finish the run."""
        self.trackio.finish()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""The trackers, by the values of `--track`."""


def make_tracker(name: str) -> Tracker:
    """Return a tracker by name.

    Raises:
        UnknownNameError: there is no tracker of this name.
        MissingExtraError: its library is not installed.
    """
    if name not in TRACKERS:
        raise UnknownNameError("tracker", name, TRACKERS)
    return TRACKERS[name]()
