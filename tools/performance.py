"""Write the table of docs/performance.md: python tools/performance.py [BENCH.json]

Without a file it runs `advnets bench --json`, which takes about 20 minutes on an idle machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- bench -->\n", "<!-- end -->\n"


def rate(case: dict[str, Any], contender: str) -> str:
    """Format the units of work per second; for the case `start`, the seconds."""
    median = case["rates"][contender]["median"]
    return f"{1 / median:.1f} s" if case["case"] == "start" else f"{median:,.0f}"


def line(case: dict[str, Any]) -> str:
    """Return a row of the table."""
    ratios = [
        f"{ratio['median']:.2f} x {name} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        for name, ratio in case["ratios"].items()
    ]
    others = [f"{name} {rate(case, name)}" for name in case["rates"] if name != "advnets"]
    useful = "-"
    if case["flops"]:
        fractions = " and ".join(
            f"{100 * case['flops'] / peak:.0f} %" for peak in case["peaks"].values()
        )
        useful = f"{case['flops'] / 1e9:,.0f}, {fractions}"
    memory = "; ".join(f"{name} {size / 2**20:,.0f}" for name, size in case["peak_bytes"].items())
    goals = "; ".join(
        f"{goal}: {'reached' if done else 'not reached'}" for goal, done in case["goals"].items()
    )
    cells = (
        f"`{case['case']}`: {case['description']}",
        rate(case, "advnets"),
        "; ".join(others) or "-",
        "; ".join(ratios) or "-",
        useful,
        memory or "-",
        goals or "-",
    )
    return "| " + " | ".join(cells) + " |"


def table(record: dict[str, Any]) -> str:
    """Return the table, after a line on the machine."""
    peaks = next(case["peaks"] for case in record["cases"] if case["peaks"])
    machine = record["machine"]
    head = (
        "case",
        "advnets, per s",
        "baselines, per s",
        "ratio (min to max)",
        "useful GFLOP/s, fraction of the float32 and bfloat16 peaks",
        "peak memory, MiB",
        "goal",
    )
    return "\n".join(
        (
            f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
            f"torch {machine['torch']}; products of 4096 x 4096: "
            + ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items())
            + ".\n",
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
            *(line(case) for case in record["cases"]),
            "",
        )
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        text = Path(sys.argv[1]).read_text()
    else:
        command = [Path(sys.executable).parent / "advnets", "bench", "--json"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + table(json.loads(text)) + END + rest.split(END)[1])
