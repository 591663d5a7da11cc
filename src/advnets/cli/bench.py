"""`advnets bench`: the speed of training, sampling and metrics, compared with baselines."""

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

from advnets.config import DataDir, ValidatedConfig, check_min
from advnets.errors import UnknownNameError

if TYPE_CHECKING:
    from advnets.bench.runner import Result


@dataclass(frozen=True)
class Bench(ValidatedConfig):
    """Measure speed against baselines: the same networks, batch sizes and data in plain PyTorch.

    Without CASE it runs all cases, which takes about 20 minutes. advnets and its baselines run in
    turn, so ratios are more reliable than absolute rates.
    """

    cases: Annotated[Positional[tuple[str, ...]], arg(metavar="[CASE ...]")] = ()
    """Cases to measure. Training and sampling: start, mlp-epoch, dcgan-epoch, mlp, paper-mnist,
    dcgan-tutorial, sampling. Metrics: parzen, prdc, frechet."""
    rounds: int = 5
    """Number of rounds; advnets and each baseline run once per round."""
    seconds: float = 5.0
    """Seconds that each of them runs in a round; whole processes run to completion."""
    data_dir: DataDir = None
    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "rounds")
        check_min(self, 0, "seconds")

    def execute(self) -> int:
        """Run the cases and print their results."""
        from advnets.bench.cases import CASES
        from advnets.bench.contenders import BenchData
        from advnets.bench.runner import machine_info, make_images, run_case

        for name in self.cases:
            if name not in CASES:
                raise UnknownNameError("benchmark case", name, CASES)
        results: list[Result] = []
        with tempfile.TemporaryDirectory() as folder:
            data = BenchData(make_images(Path(folder)), self.data_dir)
            for name in self.cases or CASES:
                package = CASES[name].requires
                if package and not self.cases and find_spec(package) is None:
                    print(f"{name}: skipped, as {package} is not installed", file=sys.stderr)
                    continue
                results.append(
                    run_case(CASES[name], data, self.rounds, self.seconds, _print_progress)
                )
                if not self.json:
                    print("\n".join(lines(results[-1])), flush=True)
        if self.json:
            print(json.dumps({"machine": machine_info(), "cases": [asdict(r) for r in results]}))
        else:
            print(", ".join(f"{name} {value}" for name, value in machine_info().items()))
        return 0


def _print_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def lines(result: Result) -> Sequence[str]:
    """Format a result as lines of text."""
    text = [f"{result.case}: {result.description}"]
    for name, rate in result.rates.items():
        if result.case == "start":
            text.append(f"  {name:10} {1 / rate.median:6.2f} s")
            continue
        memory = result.peak_bytes.get(name)
        text.append(
            f"  {name:10} {rate.median:10,.0f} /s"
            + (f"   {memory / 2**20:6,.0f} MiB" if memory else "")
            + (_ratio(result, name) if name in result.ratios else "")
        )
    if result.flops is not None:
        fractions = ", ".join(
            f"{result.flops / peak:.0%} of the {name} peak of {peak / 1e9:,.0f}"
            for name, peak in result.peaks.items()
        )
        text.append(f"  useful     {result.flops / 1e9:10,.0f} GFLOP/s: {fractions}")
    text += [
        f"  goal       {goal}: {'reached' if reached else 'not reached'}"
        for goal, reached in result.goals.items()
    ]
    return text


def _ratio(result: Result, baseline: str) -> str:
    ratio = result.ratios[baseline]
    return f"   advnets is {ratio.median:.2f} x as fast ({ratio.min:.2f} to {ratio.max:.2f})"
