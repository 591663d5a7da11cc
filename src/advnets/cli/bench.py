"""`advnets bench`: how fast ours is beside what tutorials write, on this machine."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from advnets.config import ValidatedConfig, check_min
from advnets.errors import UnknownNameError

if TYPE_CHECKING:
    from advnets.bench.runner import Result


@dataclass(frozen=True)
class Bench(ValidatedConfig):
    """Measure ours beside a tutorial's loop: same nets, batch and data, in turn, in one run.

    Without ROW all are measured, in about twelve minutes. Machines and their other work differ:
    quote ratios.
    """

    rows: Annotated[Positional[tuple[str, ...]], arg(metavar="ROW")] = ()
    """Of nets: start, mlp-epoch, mlp, paper-mnist, dcgan-tutorial, sampling.
    Of scores: parzen, prdc, frechet."""
    rounds: int = 5
    """Rounds, in each of which every contestant works once."""
    seconds: float = 5.0
    """For which each works in a round; whole processes take what they take."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where MNIST lies; None: the environment variable ADVNETS_DATA, else the user's cache."""
    json: bool = False
    """Print a record instead of the table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "rounds")
        check_min(self, 0, "seconds")

    def execute(self) -> int:
        """Measure and print."""
        from advnets.bench.cases import CASES
        from advnets.bench.contenders import BenchData
        from advnets.bench.runner import make_images, machine_info, run_case

        for name in self.rows:
            if name not in CASES:
                raise UnknownNameError("row of the bench", name, CASES)
        results: list[Result] = []
        with tempfile.TemporaryDirectory() as folder:
            setting = BenchData(make_images(Path(folder)), self.data_dir)
            for name in self.rows or CASES:
                needs = CASES[name].requires
                if needs and not self.rows and find_spec(needs) is None:
                    print(f"{name}: left out, as {needs} is not installed", file=sys.stderr)
                    continue
                results.append(run_case(CASES[name], setting, self.rounds, self.seconds, _tell))
                if not self.json:
                    print("\n".join(lines(results[-1])), flush=True)
        if self.json:
            print(json.dumps({"machine": machine_info(), "rows": [asdict(r) for r in results]}))
        else:
            print(", ".join(f"{name} {value}" for name, value in machine_info().items()))
        return 0


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def lines(result: Result) -> Sequence[str]:
    """A result in a few lines for people."""
    told = [f"{result.case}: {result.description}"]
    for name, rate in result.rates.items():
        if result.case == "start":
            told.append(f"  {name:10} {1 / rate.median:6.2f} s")
            continue
        memory = result.peak_bytes.get(name)
        told.append(
            f"  {name:10} {rate.median:10,.0f} /s"
            + (f"   {memory / 2**20:6,.0f} MiB" if memory else "")
            + (_ratio(result, name) if name in result.ratios else "")
        )
    if result.flops is not None:
        shares = ", ".join(
            f"{result.flops / peak:.0%} of the {name} peak of {peak / 1e9:,.0f}"
            for name, peak in result.peaks.items()
        )
        told.append(f"  useful     {result.flops / 1e9:10,.0f} GFLOP/s: {shares}")
    told += [
        f"  goal       {text}: {'reached' if reached else 'not reached'} here"
        for text, reached in result.goals.items()
    ]
    return told


def _ratio(result: Result, rival: str) -> str:
    ratio = result.ratios[rival]
    return f"   ours is {ratio.median:.2f} x as fast ({ratio.min:.2f} to {ratio.max:.2f})"
