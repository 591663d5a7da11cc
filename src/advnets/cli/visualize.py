"""`advnets visualize RUN WHAT`: look into a run; each view leaves a PNG and a JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg, subcommand

from advnets.config import ValidatedConfig
from advnets.errors import UsageError, printable

if TYPE_CHECKING:
    from advnets.experiment.trained_model import TrainedModel
    from advnets.visualize.figure import Figure


class ViewOptions(ValidatedConfig):
    """Base of the options of a view, whose numbers are of images on a page."""

    largest_integer: ClassVar[int] = 100_000


@dataclass(frozen=True)
class Samples(ViewOptions):
    """Samples; of a conditional run all classes, a column for each."""

    num_samples: int = 64
    """How many images."""
    label: Annotated[str | None, arg(name="class")] = None
    """The class of a conditional run, by its name; None: all of them."""
    label_index: Annotated[int | None, arg(name="class-index")] = None
    """The class of a conditional run, by its index from 0 in the order of config.json."""
    columns: int | None = None
    """Images in a row; None: about a square."""
    batch_statistics: bool = False
    """Batch norm by the statistics of every 500 samples, and not by the running ones."""
    seed: int = 0
    """Of z."""

    def view(self, trained: TrainedModel) -> Figure:
        """Draw them."""
        from advnets.visualize.samples import samples

        return samples(trained, **asdict(self))


@dataclass(frozen=True)
class Neighbors(ViewOptions):
    """Samples, each beside the training images nearest to it."""

    num_samples: int = 10
    """How many samples."""
    neighbors: int = 6
    """Training images beside each."""
    space: Literal["pixels", "discriminator"] = "pixels"
    """Near by pixels, or by the features of D's convolutions."""
    seed: int = 0
    """Of z."""

    def view(self, trained: TrainedModel) -> Figure:
        """Seek them."""
        from advnets.visualize.samples import neighbors

        return neighbors(trained, **asdict(self))


@dataclass(frozen=True)
class Interpolation(ViewOptions):
    """From sample to sample along a path through z, a row from each to the next."""

    anchors: int = 9
    """Random z on the way."""
    steps: int = 10
    """Images from one to the next."""
    interpolation: Literal["spherical", "straight"] = "spherical"
    """An arc, which stays as far from 0 as random z are, or a line."""
    seed: int = 0
    """Of the stops."""

    def view(self, trained: TrainedModel) -> Figure:
        """Walk."""
        from advnets.visualize.interpolation import interpolation

        return interpolation(trained, **asdict(self))


@dataclass(frozen=True)
class SlerpGrid(ViewOptions):
    """A square of images between four random ones at its corners."""

    size: int = 9
    """Images along each side."""
    interpolation: Literal["spherical", "straight"] = "spherical"
    """Arcs, which stay as far from 0 as random z are, or lines."""
    seed: int = 0
    """Of the corners."""

    def view(self, trained: TrainedModel) -> Figure:
        """Draw it."""
        from advnets.visualize.interpolation import slerp_grid

        return slerp_grid(trained, **asdict(self))


@dataclass(frozen=True)
class Arithmetic(ViewOptions):
    """A sum of z: exemplars and means of each term, and the result among its neighbors."""

    expression: Annotated[Positional[str], arg(metavar="SUM")]
    """Such as '3,17,20 - 5,8,9 + class:7': samples by number, classes, or paths of images."""
    radius: float = 0.25
    """How far neighbors lie from the result, in each number of z, at most."""
    seed: int = 0
    """Of the samples that are numbered."""

    def view(self, trained: TrainedModel) -> Figure:
        """Reckon."""
        from advnets.visualize.arithmetic import arithmetic

        return arithmetic(trained, **asdict(self))


@dataclass(frozen=True)
class GuidedBackprop(ViewOptions):
    """What D's strongest features look for, by guided backpropagation, beside a random D's."""

    features: int = 6
    """How many features of the last convolution."""
    top_k: int = 6
    """Training images for each, those that it responds to most strongly."""
    num_images: int = 2000
    """Training images among which these are sought."""

    def view(self, trained: TrainedModel) -> Figure:
        """Look."""
        from advnets.visualize.guided_backprop import filters

        return filters(trained, **asdict(self))


@dataclass(frozen=True)
class Activations(ViewOptions):
    """Samples through all layers: G's maps that made them, D's maps that judge them."""

    num_samples: int = 4
    """How many samples."""
    maps: int = 12
    """Maps of each layer, the strongest."""
    seed: int = 0
    """Of z."""

    def view(self, trained: TrainedModel) -> Figure:
        """Look."""
        from advnets.visualize.guided_backprop import activations

        return activations(trained, **asdict(self))


@dataclass(frozen=True)
class WindowDropout(ViewOptions):
    """Samples before and after what draws one thing, learned from boxes, is dropped from G."""

    boxes: Annotated[Path, arg(metavar="FILE.json")]
    """Boxes on samples of seed 0, in pixels: [{"sample": 3, "box": [left, top, right, bottom]}]."""
    num_samples: int = 12
    """How many samples are shown."""
    radius: float = 1.0
    """How much of the maps is dropped: 1 all, 0 nothing."""
    seed: int = 0
    """Of the samples that are shown."""

    def view(self, trained: TrainedModel) -> Figure:
        """Learn the direction and drop it."""
        from advnets.visualize.window_dropout import read_boxes, window_dropout

        _, height, width = trained.info.shape
        boxes = read_boxes(self.boxes, height, width)
        return window_dropout(
            trained, boxes=boxes, num_samples=self.num_samples, radius=self.radius, seed=self.seed
        )


@dataclass(frozen=True)
class Timelapse:
    """The same z over the training, from the grids of samples that the run has left."""

    def view(self, trained: TrainedModel) -> Figure:
        """Collect them."""
        from advnets.visualize.timelapse import timelapse

        return timelapse(trained)


@dataclass(frozen=True)
class Reconstructions(ViewOptions):
    """Test images, each beside what comes back of it through an encoder and G."""

    num_samples: int = 10
    """How many test images."""
    draws: int = 4
    """Images by draws of z, beside the one by its mean."""
    seed: int = 0
    """Of the draws."""

    def view(self, trained: TrainedModel) -> Figure:
        """Draw them."""
        from advnets.visualize.reconstructions import reconstructions

        return reconstructions(trained, **asdict(self))


@dataclass(frozen=True)
class Inpainting(ViewOptions):
    """Test images, what is known of them, and several ways in which G completes them."""

    num_samples: int = 6
    """How many test images."""
    draws: int = 8
    """Completions of each."""
    hidden: tuple[Literal["upper", "lower", "left", "right", "box", "pixels"], ...] = (
        "lower",
        "left",
        "box",
        "pixels",
    )
    """What is hidden, one block of rows each."""
    seed: int = 0
    """Of z and of what is hidden."""

    def view(self, trained: TrainedModel) -> Figure:
        """Complete them."""
        from advnets.visualize.inpainting import inpainting

        return inpainting(trained, **asdict(self))


What = (
    Annotated[Samples, subcommand("samples")]
    | Annotated[Neighbors, subcommand("neighbors")]
    | Annotated[Interpolation, subcommand("interpolation")]
    | Annotated[SlerpGrid, subcommand("slerp-grid")]
    | Annotated[Arithmetic, subcommand("arithmetic")]
    | Annotated[GuidedBackprop, subcommand("guided-backprop")]
    | Annotated[Activations, subcommand("activations")]
    | Annotated[WindowDropout, subcommand("window-dropout")]
    | Annotated[Timelapse, subcommand("timelapse")]
    | Annotated[Reconstructions, subcommand("reconstructions")]
    | Annotated[Inpainting, subcommand("inpainting")]
)


@dataclass(frozen=True)
class Visualize:
    """Look into a run: each view leaves a PNG, and a JSON of what it shows, in RUN/views/."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    what: Annotated[What, arg(name="")]
    """What to look at."""
    out: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """Where the image goes, the JSON beside it; None: RUN/views/, by the view's name."""
    movie: Annotated[Path | None, arg(metavar="FILE.gif|FILE.mp4")] = None
    """Of walk and training: the same as a film."""
    weights: Literal["ema", "last"] | None = None
    """The weight average or the last weights; None: the average where the run keeps one."""
    data: Annotated[str | None, arg(metavar="SOURCE")] = None
    """The path where the run's data lies now; None: as it was trained. Its digest is checked."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """The directory where the run's named set lies now; None: as it was trained."""
    device: str = "cpu"
    """auto, cpu, cuda, cuda:N or mps."""

    def execute(self) -> int:
        """Look, and write what is seen."""
        from advnets.experiment.trained_model import load
        from advnets.files import check_output
        from advnets.visualize.figure import write_figure
        from advnets.visualize.timelapse import check_movie_name, write_movie

        if self.out is not None:
            check_output(self.out)
            if self.out.suffix != ".png":
                raise UsageError(f"{self.out} is to hold an image; give a name in .png")
        if self.movie is not None:
            check_output(self.movie, "--movie")
            check_movie_name(self.movie)
        trained = load(
            self.run,
            weights=self.weights,
            device=self.device,
            data=self.data,
            data_dir=self.data_dir,
        )
        if trained.normalizer.for_points:
            raise UsageError(f"{self.run} is of points, and views are of images; see its samples/")
        look = self.what.view(trained)
        if self.movie is not None and not look.frames:
            raise UsageError(
                f"{look.record['view']} does not move; --movie is for walk and training"
            )
        for path in write_figure(
            look, self.out or self.run / "views" / f"{look.record['view']}.png"
        ):
            print(printable(str(path)))
        if self.movie is not None:
            write_movie(look.frames, self.movie)
            print(printable(str(self.movie)))
        return 0
