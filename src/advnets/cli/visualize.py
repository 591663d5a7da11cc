"""`advnets visualize RUN VIEW`: draw a view of a trained model, as a PNG file and a JSON record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from tyro.conf import Positional, arg, subcommand

from advnets.errors import UsageError, printable


def _views() -> Any:
    """Return the type of the subcommands; called only to parse `advnets visualize`."""
    from advnets.visualize import view_classes

    classes = view_classes()
    return Union[tuple(Annotated[view, subcommand(name)] for name, view in classes.items())]  # noqa: UP007


@dataclass(frozen=True)
class Visualize:
    """Draw a view of a trained model; write it to RUN/views/ as a PNG and a JSON file."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory of the model."""
    view: Annotated[Any, arg(name="", constructor_factory=_views)]
    """View to draw."""
    out: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """File to write the image to, with the JSON file next to it; None: RUN/views/VIEW.png."""
    movie: Annotated[Path | None, arg(metavar="FILE.gif|FILE.mp4")] = None
    """File to write a movie to, for the views interpolation and timelapse; None: no movie."""
    step: int | Literal["best"] | None = None
    """Step of a kept checkpoint, or best (see `advnets train --keep-best`); None: the newest."""
    weights: Literal["ema", "last"] | None = None
    """Weights to load: the exponential moving average (ema) or the last ones; None: ema if the run
    has it, else last."""
    data: Annotated[str | None, arg(metavar="SOURCE")] = None
    """New path of the run's data, if it was moved (its digest is checked); None: as in training."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """New directory of the run's named dataset, if it was moved; None: as in training."""
    device: Annotated[str, arg(metavar="DEVICE")] = "cpu"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps."""
    trust_code: bool = False
    """Run the Python files of a run with a custom generator or discriminator."""

    def execute(self) -> int:
        """Render the view and write its files; return the exit status."""
        from advnets.experiment.trained_model import load
        from advnets.files import check_output
        from advnets.visualize.figure import View, check_movie_path, write_figure, write_movie

        # Check the outputs before anything is computed.
        view: View = self.view
        if self.out is not None:
            check_output(self.out)
            if self.out.suffix != ".png":
                raise UsageError(
                    f"{self.out} is not the name of a PNG file; give a name that ends in .png"
                )
        if self.movie is not None:
            check_output(self.movie, "--movie")
            check_movie_path(self.movie)
        model = load(
            self.run,
            step=self.step,
            weights=self.weights,
            device=self.device,
            data=self.data,
            data_dir=self.data_dir,
            trust_code=self.trust_code,
        )
        if model.normalizer.for_points:
            raise UsageError(
                f"{self.run} is a model of points, and views require images; see the plots in its "
                "samples/"
            )

        figure = view.render(model)
        if self.movie is not None and not figure.frames:
            raise UsageError(
                f"the view {view.name()} has no movie; give --movie with interpolation or timelapse"
            )
        for path in write_figure(figure, self.out or self.run / "views" / f"{view.name()}.png"):
            print(printable(str(path)))
        if self.movie is not None:
            write_movie(figure.frames, self.movie)
            print(printable(str(self.movie)))
        return 0
