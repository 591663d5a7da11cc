"""One contestant in a process of its own: `python -m advnets.bench.worker ROW WHO SETTING`.

For each line on its input it works for as many seconds as the line says, and prints what it did and
in which time; at the end of its input it prints the most memory it held.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from advnets.bench.contenders import CONTENDERS, PEAKS, Setting
from advnets.training.memory import peak_bytes


def block(work: Iterator[int], seconds: float) -> dict[str, float]:
    """Work for about as many seconds."""
    began, done, passed = time.perf_counter(), 0, 0.0
    while not done or passed < seconds:
        done += next(work)
        passed = time.perf_counter() - began
    return {"done": done, "seconds": passed}


def main(row: str, who: str, setting: str) -> None:
    """Serve until the input ends."""
    told = json.loads(setting)
    work = (PEAKS if row == "peak" else CONTENDERS[row])[who](
        Setting(Path(told["images"]), told["data_dir"])
    )
    for line in sys.stdin:
        print(json.dumps(block(work, float(line))), flush=True)
    print(json.dumps({"peak_bytes": peak_bytes(torch.device("cpu"))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
