"""`advnets view RUN WHAT`: look into a run; each view leaves a PNG and a JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg, subcommand

from advnets.config import Checked
from advnets.errors import UsageError, printable

if TYPE_CHECKING:
    from advnets.experiment.trained_model import Trained
    from advnets.visualize.figure import Look


class ViewOptions(Checked):
    """Base of the options of a view, whose numbers are of images on a page."""

    largest_integer: ClassVar[int] = 100_000


@dataclass(frozen=True)
class Samples(ViewOptions):
    """Samples; of a conditional run all classes, a column for each."""

    num: int = 64
    """How many pictures."""
    label: Annotated[str | None, arg(name="class")] = None
    """The class of a conditional run, by its name; None: all of them."""
    label_index: Annotated[int | None, arg(name="class-index")] = None
    """The class of a conditional run, by its index from 0 in the order of config.json."""
    columns: int | None = None
    """Pictures in a row; None: about a square."""
    batch_statistics: bool = False
    """Batch norm by the statistics of every 500 samples, and not by the running ones."""
    seed: int = 0
    """Of z."""

    def look(self, trained: Trained) -> Look:
        """Draw them."""
        from advnets.visualize.samples import samples

        return samples(trained, **asdict(self))


@dataclass(frozen=True)
class Neighbours(ViewOptions):
    """Samples, each beside the training pictures nearest to it."""

    num: int = 10
    """How many samples."""
    near: int = 6
    """Training pictures beside each."""
    by: Literal["pixels", "discriminator"] = "pixels"
    """Near by pixels, or by the features of D's convolutions."""
    seed: int = 0
    """Of z."""

    def look(self, trained: Trained) -> Look:
        """Seek them."""
        from advnets.visualize.samples import neighbours

        return neighbours(trained, **asdict(self))


@dataclass(frozen=True)
class Walk(ViewOptions):
    """From sample to sample along a path through z, a row from each to the next."""

    stops: int = 9
    """Random z on the way."""
    steps: int = 10
    """Pictures from one to the next."""
    path: Literal["spherical", "straight"] = "spherical"
    """An arc, which stays as far from 0 as random z are, or a line."""
    seed: int = 0
    """Of the stops."""

    def look(self, trained: Trained) -> Look:
        """Walk."""
        from advnets.visualize.interpolation import walk

        return walk(trained, **asdict(self))


@dataclass(frozen=True)
class SlerpGrid(ViewOptions):
    """A square of pictures between four random ones at its corners."""

    size: int = 9
    """Pictures along each side."""
    path: Literal["spherical", "straight"] = "spherical"
    """Arcs, which stay as far from 0 as random z are, or lines."""
    seed: int = 0
    """Of the corners."""

    def look(self, trained: Trained) -> Look:
        """Draw it."""
        from advnets.visualize.interpolation import slerp_grid

        return slerp_grid(trained, **asdict(self))


@dataclass(frozen=True)
class Arithmetic(ViewOptions):
    """A sum of z: exemplars and means of each term, and the result among its neighbours."""

    expression: Annotated[Positional[str], arg(metavar="SUM")]
    """Such as '3,17,20 - 5,8,9 + class:7': samples by number, classes, or paths of pictures."""
    reach: float = 0.25
    """How far neighbours lie from the result, in each number of z, at most."""
    seed: int = 0
    """Of the samples that are numbered."""

    def look(self, trained: Trained) -> Look:
        """Reckon."""
        from advnets.visualize.arithmetic import arithmetic

        return arithmetic(trained, **asdict(self))


@dataclass(frozen=True)
class Filters(ViewOptions):
    """What D's strongest features look for, by guided backpropagation, beside a random D's."""

    features: int = 6
    """How many features of the last convolution."""
    tops: int = 6
    """Training pictures for each, those that it responds to most strongly."""
    looked: int = 2000
    """Training pictures among which these are sought."""

    def look(self, trained: Trained) -> Look:
        """Look."""
        from advnets.visualize.guided_backprop import filters

        return filters(trained, **asdict(self))


@dataclass(frozen=True)
class Activations(ViewOptions):
    """Samples through all layers: G's maps that made them, D's maps that judge them."""

    num: int = 4
    """How many samples."""
    maps: int = 12
    """Maps of each layer, the strongest."""
    seed: int = 0
    """Of z."""

    def look(self, trained: Trained) -> Look:
        """Look."""
        from advnets.visualize.guided_backprop import activations

        return activations(trained, **asdict(self))


@dataclass(frozen=True)
class WindowDrop(ViewOptions):
    """Samples before and after what draws one thing, learned from boxes, is dropped from G."""

    boxes: Annotated[Path, arg(metavar="FILE.json")]
    """Boxes on samples of seed 0, in pixels: [{"sample": 3, "box": [left, top, right, bottom]}]."""
    num: int = 12
    """How many samples are shown."""
    reach: float = 1.0
    """How much of the maps is dropped: 1 all, 0 nothing."""
    seed: int = 0
    """Of the samples that are shown."""

    def look(self, trained: Trained) -> Look:
        """Learn the direction and drop it."""
        from advnets.visualize.window_dropout import read_boxes, window_drop

        _, height, width = trained.facts.shape
        boxes = read_boxes(self.boxes, height, width)
        return window_drop(trained, boxes=boxes, num=self.num, reach=self.reach, seed=self.seed)


@dataclass(frozen=True)
class Training:
    """The same z over the training, from the grids of samples that the run has left."""

    def look(self, trained: Trained) -> Look:
        """Collect them."""
        from advnets.visualize.timelapse import training

        return training(trained)


@dataclass(frozen=True)
class Reconstructions(ViewOptions):
    """Test pictures, each beside what comes back of it through an encoder and G."""

    num: int = 10
    """How many test pictures."""
    draws: int = 4
    """Pictures by draws of z, beside the one by its mean."""
    seed: int = 0
    """Of the draws."""

    def look(self, trained: Trained) -> Look:
        """Draw them."""
        from advnets.visualize.reconstructions import reconstructions

        return reconstructions(trained, **asdict(self))


@dataclass(frozen=True)
class Completions(ViewOptions):
    """Test pictures, what is known of them, and several ways in which G completes them."""

    num: int = 6
    """How many test pictures."""
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

    def look(self, trained: Trained) -> Look:
        """Complete them."""
        from advnets.visualize.inpainting import completions

        return completions(trained, **asdict(self))


What = (
    Annotated[Samples, subcommand("samples")]
    | Annotated[Neighbours, subcommand("neighbours")]
    | Annotated[Walk, subcommand("walk")]
    | Annotated[SlerpGrid, subcommand("slerp-grid")]
    | Annotated[Arithmetic, subcommand("arithmetic")]
    | Annotated[Filters, subcommand("filters")]
    | Annotated[Activations, subcommand("activations")]
    | Annotated[WindowDrop, subcommand("window-drop")]
    | Annotated[Training, subcommand("training")]
    | Annotated[Reconstructions, subcommand("reconstructions")]
    | Annotated[Completions, subcommand("completions")]
)


@dataclass(frozen=True)
class View:
    """Look into a run: each view leaves a PNG, and a JSON of what it shows, in RUN/views/."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    what: Annotated[What, arg(name="")]
    """What to look at."""
    out: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """Where the picture goes, the JSON beside it; None: RUN/views/, by the view's name."""
    movie: Annotated[Path | None, arg(metavar="FILE.gif|FILE.mp4")] = None
    """Of walk and training: the same as a film."""
    weights: Literal["average", "last"] | None = None
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
        from advnets.visualize.figure import write
        from advnets.visualize.timelapse import check_movie_name, write_movie

        if self.out is not None:
            check_output(self.out)
            if self.out.suffix != ".png":
                raise UsageError(f"{self.out} is to hold a picture; give a name in .png")
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
        if trained.scaling.of_points:
            raise UsageError(
                f"{self.run} is of points, and views are of pictures; see its samples/"
            )
        look = self.what.look(trained)
        if self.movie is not None and not look.frames:
            raise UsageError(
                f"{look.record['view']} does not move; --movie is for walk and training"
            )
        for path in write(look, self.out or self.run / "views" / f"{look.record['view']}.png"):
            print(printable(str(path)))
        if self.movie is not None:
            write_movie(look.frames, self.movie)
            print(printable(str(self.movie)))
        return 0
