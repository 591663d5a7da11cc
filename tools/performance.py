"""Write the table of docs/performance.md from a bench: python tools/performance.py [BENCH.json]

Without a file it runs `advnets bench --json` itself, in about twelve minutes on a quiet machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- bench -->\n", "<!-- end -->\n"


def rate(row: dict[str, Any], who: str) -> str:
    """Units a second, or seconds for a start."""
    median = row["rates"][who]["median"]
    return f"{1 / median:.1f} s" if row["row"] == "start" else f"{median:,.0f}"


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    ratios = [
        f"{r['median']:.2f} x {who} ({r['least']:.2f} to {r['largest']:.2f})"
        for who, r in row["ratios"].items()
    ]
    others = [f"{who} {rate(row, who)}" for who in row["rates"] if who != "ours"]
    useful = "-"
    if row["flops"]:
        shares = " and ".join(f"{row['flops'] / peak:.0%}" for peak in row["peaks"].values())
        useful = f"{row['flops'] / 1e9:,.0f}, {shares}"
    memory = "; ".join(f"{who} {held / 2**20:,.0f}" for who, held in row["peak_bytes"].items())
    goals = "; ".join(
        f"{goal}: {'reached' if done else 'not reached'}" for goal, done in row["goals"].items()
    )
    cells = (
        f"`{row['row']}`: {row['about']}",
        rate(row, "ours"),
        "; ".join(others) or "-",
        "; ".join(ratios) or "-",
        useful,
        memory or "-",
        goals or "-",
    )
    return "| " + " | ".join(cells) + " |"


def table(told: dict[str, Any]) -> str:
    """The table and the machine."""
    peaks = next(row["peaks"] for row in told["rows"] if row["peaks"])
    machine = told["machine"]
    head = (
        "row",
        "ours /s",
        "others /s",
        "ours is (least to largest)",
        "useful GFLOP/s, share of the float32 and bfloat16 peaks",
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
            *(line(row) for row in told["rows"]),
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
