"""Test and measure advnets on a machine with a CUDA device, without a network.

    python tools/gpu_check.py --out gpu.json                 # 9 minutes; writes gpu.json and gpu.md
    python tools/gpu_check.py --out gpu.json --minutes 20    # goes on with what is missing

It runs the tests that need CUDA (of the extra `dev`) and measures the training images per second
and the peak memory of every preset, eagerly, with --cuda-graph and with --compile, of gradient
penalties, and of 1 to 8 processes where there are as many cards. Data that are not on the machine
are replaced by random images of their shape. The most important cases come first. Each is stored
when it ends, so that the same command goes on after a kill or at the end of its time. A case that
failed is tried again last.

`--device cpu --toy` runs the same cases with small networks, to try the script itself.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.benchmark import Timer

import advnets
from advnets import config, presets
from advnets.config.overrides import apply_overrides
from advnets.data.memory import open_in_memory
from advnets.data.prepared import PreparedData, open_data, prepare
from advnets.errors import DataError, UsageError
from advnets.experiment import setup
from advnets.files import write_atomically, write_json
from advnets.run_directory import RunDirectory
from advnets.run_records import versions
from advnets.training import devices
from advnets.training.memory import peak_bytes
from advnets.training.step import train_step

ROOT = Path(__file__).parents[1]

KINDS = ("tests", "presets", "processes", "penalties", "compile")
MODES = ("eager", "cuda-graph")
MAIN_PRESETS = (
    *("paper-mnist", "dcgan-mnist", "projection-mnist", "semi-supervised-mnist-large"),
    *("dcgan", "modern", "modern-residual", "digits"),
)
"""The presets that are measured first."""
PENALIZED_PRESETS = ("modern-mnist", "modern-ring", "modern-residual", "mnist-relativistic")
PENALTIES = ("none", "exact", "finite-difference")
PROCESS_PRESET, PROCESSES = "dcgan", (1, 2, 4, 8)

SHAPES = {
    "mnist": (1, 28, 28),
    "stacked-mnist": (3, 28, 28),
    "tfd": (1, 48, 48),
    "cifar10": (3, 32, 32),
    "digits": (1, 8, 8),
}
"""Shapes of the random images in place of named datasets."""
RANDOM_IMAGES, CLASSES = 5000, 10
TOY_SIZES = {
    "hidden_sizes": 100,
    "output_sparse_init": 10,
    "channels": 8,
    "dense_units": 8,
    "dense": 8,
    "base_channels": 16,
    "max_channels": 16,
    "size": 32,
    "batch_size": 8,
    "labeled_batch": 8,
    "generated_batch": 8,
}
"""Upper bounds of options at toy size."""

WARM_UP_STEPS = 3
TIMED_SECONDS, TOY_SECONDS = 1.0, 0.01
PROCESS_STEPS, TOY_STEPS = 400, 4
"""Steps of a training in several processes, whose speed in the last quarter is measured."""
LEAST_SECONDS = 1.0
"""Time left below which no further case is begun."""

Result = dict[str, Any]
"""`status` (done, skipped or failed), `reason` of the latter two, and what was measured."""


@dataclass(frozen=True)
class Case:
    """A measurement, or the tests; it is killed after `limit` seconds."""

    kind: str
    preset: str = ""
    mode: str = "eager"
    penalty: str = ""
    processes: int = 1
    limit: float = 60.0

    @property
    def name(self) -> str:
        """The name under which the result is stored."""
        parts = {
            "presets": (self.preset, self.mode),
            "processes": (self.preset, str(self.processes)),
            "penalties": (self.preset, self.penalty, self.mode),
            "compile": (self.preset,),
        }
        return " ".join((self.kind, *parts.get(self.kind, ())))


def all_cases() -> list[Case]:
    """Return all cases, the most important first."""
    others = [name for name in presets.PRESETS if name not in MAIN_PRESETS]
    return [
        Case("tests", limit=180.0),
        *(Case("presets", name, mode) for name in MAIN_PRESETS for mode in MODES),
        *(Case("processes", PROCESS_PRESET, processes=number) for number in PROCESSES),
        *(
            Case("penalties", name, mode, penalty)
            for name in PENALIZED_PRESETS
            for mode in MODES
            for penalty in PENALTIES
        ),
        *(Case("presets", name, mode) for name in others for mode in MODES),
        *(Case("compile", name, limit=150.0) for name in (*MAIN_PRESETS, *others)),
    ]


@dataclass(frozen=True)
class Options:
    """The device and size of all cases, and a folder for their files."""

    device: str
    toy: bool
    folder: Path

    @property
    def num_cards(self) -> int:
        """The number of processes that can run at once, each on a card of its own."""
        return torch.cuda.device_count() if self.device == "cuda" else 2


def skipped(reason: str) -> Result:
    """Return the result of a case that does not apply."""
    return {"status": "skipped", "reason": reason}


def failed(reason: str) -> Result:
    """Return the result of a case that failed."""
    return {"status": "failed", "reason": reason}


# Tests.


def run_tests(limit: float) -> Result:
    """Run the tests with the mark `cuda`."""
    if any(importlib.util.find_spec(name) is None for name in ("pytest", "beartype")):
        return skipped("the tests need the extra dev: pip install -e '.[dev]'")
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(path) for path in paths if "mark.cuda" in path.read_text("utf-8")]
    options = ("-q", "-m", "cuda", "-W", "default", "-p", "no:cacheprovider")
    code, output = run_command(
        [sys.executable, "-m", "pytest", *options, *files], limit, CUBLAS_WORKSPACE_CONFIG=":4096:8"
    )
    lines = output.splitlines()
    summary = lines[-1].strip("= ") if lines else ""
    if code == 0:
        return {"status": "done", "summary": summary}
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return failed("; ".join((summary, *failures)))


def run_command(command: Sequence[str], limit: float, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit status and what it printed.

    Raises:
        TimeoutError: it took more than `limit` seconds, and was ended.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except BaseException as error:
        # torchrun ends its processes, which are in sessions of their own, when it is terminated.
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimeoutError from None
        raise
    return process.returncode, output


# Training steps, measured in a process of their own.


class StepsWorker:
    """A process that measures training steps, started when needed and again after a failure."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._started: tuple[Any, Connection] | None = None

    def measure(self, case: Case, limit: float) -> Result:
        """Measure a case.

        Raises:
            TimeoutError: it took more than `limit` seconds.
        """
        if self._started is None:
            context = multiprocessing.get_context("spawn")
            connection, other = context.Pipe()
            process = context.Process(target=serve, args=(other, self.options), daemon=True)
            process.start()
            other.close()
            self._started = process, connection
        process, connection = self._started
        try:
            connection.send(case)
            if not connection.poll(limit):
                self.stop()
                raise TimeoutError
            result = connection.recv()
        except (EOFError, BrokenPipeError):
            process.join()
            result = failed(f"the process ended with exit status {process.exitcode}")
        if result["status"] == "failed":  # an error of a CUDA kernel leaves the process unusable
            self.stop()
        return result

    def stop(self) -> None:
        """End the process, if there is one, in two seconds."""
        if self._started is not None:
            process, connection = self._started
            connection.close()
            process.join(2)
            process.kill()
            process.join()
            self._started = None


def serve(connection: Connection, options: Options) -> None:
    """Measure the cases that arrive, until the connection is closed."""
    while True:
        try:
            case: Case = connection.recv()
        except EOFError:
            return
        try:
            result = measure_steps(case, options)
        except UsageError as error:  # the preset does not support the mode
            result = skipped(str(error))
        except Exception as error:
            result = failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        connection.send(result)


def measure_steps(case: Case, options: Options) -> Result:
    """Train some steps of the last stage of a preset; return its speed and peak memory."""
    run = case_config(case, options)
    data, kind = training_data(run.data, options)
    run = setup.resolve_config(run, data.info, devices.resolve(run.runtime))
    device = devices.setup_process(run.runtime)
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    state = setup.make_train_state(run, data, len(run.stages) - 1, device)
    for _ in range(WARM_UP_STEPS):
        train_step(state)
    timer = Timer(
        "train_step(state)",
        globals={"train_step": train_step, "state": state},
        num_threads=run.runtime.threads,
    )
    timed = timer.blocked_autorange(min_run_time=TOY_SECONDS if options.toy else TIMED_SECONDS)
    return {
        "status": "done",
        "images_per_second": run.batch_size * run.stage.game.batches_per_step / timed.median,
        "batch_size": run.batch_size,
        "precision": run.runtime.precision,
        "data": kind,
        # On a CPU the peak is that of all cases before.
        "peak_bytes": (peak_bytes(device) or 0) - before if device.type == "cuda" else None,
    }


def case_config(case: Case, options: Options) -> config.Config:
    """Return the config of a case."""
    run = presets.get_preset(case.preset)
    if options.toy:
        run = shrunk(run)
    overrides: dict[str, object] = {
        "device": options.device,
        "threads": 1 if options.toy else 0,
        "compile": case.kind == "compile",
        "cuda_graph": case.mode == "cuda-graph",
    }
    if case.penalty == "none":
        overrides |= {"game.r1": 0.0, "game.r2": 0.0, "game.r1_final": None, "game.r2_final": None}
    elif case.penalty:
        overrides["game.penalty"] = case.penalty
    if isinstance(run.stage.game, config.LatentRegressionGame):
        overrides["game.generator_run"] = str(trained_generator(options))
    return setup.with_pretrained_generator(apply_overrides(run, overrides))


def shrunk(part: Any) -> Any:
    """Return a config, or a part of one, whose sizes are at most those of `TOY_SIZES`."""
    changed: dict[str, Any] = {}
    for field in fields(part):
        value, bound = getattr(part, field.name), TOY_SIZES.get(field.name)
        if is_dataclass(value):
            changed[field.name] = shrunk(value)
        elif field.name == "stages":
            changed[field.name] = tuple(map(shrunk, value))
        elif bound is not None and value is not None:
            many = isinstance(value, tuple)
            sizes = [min(size, bound) for size in (cast(Any, value) if many else (value,))]
            changed[field.name] = tuple(sizes) if many else sizes[0]
    return replace(part, **changed)


@functools.cache
def training_data(spec: config.Data, options: Options) -> tuple[PreparedData, str]:
    """Return the data of a preset, or random images of their shape, and which of both they are."""
    try:
        if options.toy and spec.source in SHAPES:
            raise DataError("toy sizes take random images")
        return open_data(spec), spec.source
    except (DataError, UsageError):
        images, labels = random_images(spec, options)
        return prepare(open_in_memory(images, labels, spec), spec), "random"


def random_images(spec: config.Data, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return random images of the shape of a dataset, or of `size` for own images; and labels."""
    shape = SHAPES.get(spec.source, (3, spec.size, spec.size))
    count = RANDOM_IMAGES // 10 if options.toy else RANDOM_IMAGES
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, np.arange(count) % CLASSES


def trained_generator(options: Options) -> Path:
    """Return a run of paper-mnist of one step, whose generator latent-regression-mnist takes."""
    out = options.folder / "generator"
    if not out.exists():
        run = presets.get_preset("paper-mnist")
        images, labels = random_images(run.data, options)
        advnets.train(
            shrunk(run) if options.toy else run,
            data=images,
            labels=labels,
            out=out,
            steps=1,
            progress=False,
            device=options.device,
            eval_every=0,
        )
    return out


# Several processes.


def measure_processes(case: Case, options: Options, limit: float) -> Result:
    """Train in several processes by torchrun, with the preset's batch in each; return the speed.

    Raises:
        TimeoutError: it took more than `limit` seconds.
    """
    number = case.processes
    if number > options.num_cards:
        return skipped(f"it needs {number} devices, and there are {options.num_cards}")
    # Write the images, and the command.
    spec = presets.get_preset(case.preset).data
    spec = cast(config.Data, shrunk(spec)) if options.toy else spec
    images = options.folder / f"{case.preset}.npz"
    if not images.exists():
        pixels, labels = random_images(spec, options)
        np.savez(images, images=pixels, labels=labels)
    out = options.folder / case.name.replace(" ", "-")
    steps = TOY_STEPS if options.toy else PROCESS_STEPS
    flags = {
        "--data": images,
        "--device": options.device,
        "--batch-size": number * spec.batch_size,
        "--steps": steps,
        "--log-every": steps // 4,
        **dict.fromkeys(("--sample-every", "--checkpoint-every", "--eval-every"), 0),
        "--out": out,
    }
    if options.toy:
        flags |= {f"--{player}.base-channels": 8 for player in ("generator", "discriminator")}
        flags["--threads"] = 1
    launcher = ("torch.distributed.run", "--standalone", f"--nproc-per-node={number}", "-m")
    command = [sys.executable, "-m", *(launcher if number > 1 else ()), "advnets", "train"]
    command += [case.preset, *(str(text) for flag in flags.items() for text in flag)]
    # Train, and read the speed of the last quarter.
    code, output = run_command(command, limit)
    if code != 0:
        return failed(f"exit status {code}: {' '.join(output.split())[-300:]}")
    logs = [event for event in RunDirectory(out).events() if event["kind"] == "log"]
    return {
        "status": "done",
        "images_per_second": logs[-1]["images_per_second"],
        "batch_size": number * spec.batch_size,
        "data": "random",
    }


# The whole check.


def check(
    cases: Sequence[Case], record: dict[str, Any], options: Options, out: Path, end: float
) -> None:
    """Run the cases that the record lacks until the time `end`, and store each in it."""
    results: dict[str, Result] = record["cases"]
    missing = [case for case in cases if results.get(case.name, {}).get("status") != "done"]
    missing.sort(key=lambda case: case.name in results)
    worker = StepsWorker(options)
    for case in missing:
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            break
        start, limit = time.monotonic(), min(case.limit, left)
        try:
            if case.kind == "tests":
                result = run_tests(limit)
            elif case.kind == "processes":
                result = measure_processes(case, options, limit)
            else:
                result = worker.measure(case, limit)
        except TimeoutError:
            if limit < case.limit:
                break
            result = failed(f"it took more than {limit:.0f} s")
        results[case.name] = {**result, "seconds": round(time.monotonic() - start, 1)}
        print(f"{case.name}: {describe(result)}", flush=True)
        store(record, out)
    worker.stop()


def store(record: dict[str, Any], out: Path) -> None:
    """Write the JSON file, and the tables beside it."""
    write_json(out, record)
    text = markdown(record)
    write_atomically(out.with_suffix(".md"), lambda path: path.write_text(text, "utf-8"))


def describe(result: Result) -> str:
    """Return one line on a result."""
    if result["status"] != "done":
        return f"{result['status']}: {result['reason']}"
    if "summary" in result:
        return result["summary"]
    return f"{result['images_per_second']:,.0f} images/s"


def machine(options: Options) -> dict[str, Any]:
    """Return what the results depend on."""
    name = (
        torch.cuda.get_device_name() if options.device == "cuda" else devices.cpuinfo("model name")
    )
    return {
        "device": options.device,
        "name": name,
        "devices": options.num_cards if options.device == "cuda" else 1,
        "cuda": torch.version.cuda,
        "cores": devices.num_cores(),
        "toy": options.toy,
        **versions(),
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the results as tables in Markdown, with what is missing and why."""
    results: dict[str, Result] = record["cases"]
    about = record["machine"]
    tests = describe(results["tests"]) if "tests" in results else "missing"

    def cell(case: Case) -> str:
        result = results.get(case.name, {})
        if result.get("status") != "done":
            return "-"
        peak = result.get("peak_bytes")
        memory = f" ({peak / 2**20:,.0f} MiB)" if peak else ""
        return f"{result['images_per_second']:,.0f}{memory}"

    # Presets.
    rows: list[tuple[str, ...]] = []
    for name in presets.PRESETS:
        eager = Case("presets", name)
        if cell(eager) != "-":
            found = results[eager.name]
            sizes = f"{found['batch_size']:,}, {found['precision']}, {found['data']}"
            graph, compiled = (replace(eager, mode="cuda-graph"), Case("compile", name))
            rows.append((f"`{name}`", sizes, cell(eager), cell(graph), cell(compiled)))
    head = ("preset", "images per step, precision, data", "eager", "`--cuda-graph`", "`--compile`")
    preset_table = table(head, rows)

    # Penalties, and processes.
    rows = [
        (f"`{name}`, {mode}", *(cell(Case("penalties", name, mode, each)) for each in PENALTIES))
        for name in PENALIZED_PRESETS
        for mode in MODES
    ]
    penalty_table = table(("preset", *PENALTIES), rows)
    rows = [tuple(cell(Case("processes", PROCESS_PRESET, processes=n)) for n in PROCESSES)]
    process_table = table(("1 process", *(f"{n} processes" for n in PROCESSES[1:])), rows)

    # What is missing, by reason.
    reasons: dict[str, list[str]] = {}
    for case in all_cases():
        if (result := results.get(case.name, skipped("not yet measured")))["status"] != "done":
            reasons.setdefault(describe(result), []).append(case.name)
    return "\n\n".join(
        (
            f"{about['devices']} x {about['name']}, {about['cores']} cores, "
            f"Python {about['python']}, torch {about['torch']}{', toy sizes' * about['toy']}.",
            f"Tests: {tests}.",
            "Training images per second, and peak memory:",
            preset_table,
            "With the gradient penalties R1 and R2 left out, exact or estimated:",
            penalty_table,
            f"In several processes, each with the batch of `{PROCESS_PRESET}`:",
            process_table,
            *(f"- {reason}: {', '.join(names)}" for reason, names in reasons.items()),
            "",
        )
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and write the results; return 1 if a case failed."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("gpu.json"), help="the JSON file; .md is beside it")
    add("--minutes", type=float, default=9.0, help="the time after which it stops (default: 9)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="the device (default: cuda)")
    add("--toy", action="store_true", help="use small networks and batches")
    add("--only", nargs="+", choices=KINDS, default=KINDS, help="the kinds of cases (default: all)")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; give --device cpu --toy to try the script")
    cases = [case for case in all_cases() if case.kind in given.only]
    with tempfile.TemporaryDirectory() as folder:
        options = Options(given.device, given.toy, Path(folder))
        record: dict[str, Any] = {"machine": machine(options), "cases": {}}
        if given.out.exists():
            stored = json.loads(given.out.read_text("utf-8"))
            if stored["machine"] != record["machine"]:
                parser.error(f"{given.out} is of another machine or size; give another --out")
            record = stored
        check(cases, record, options, given.out, start + 60 * given.minutes)
    results = {name: result["status"] for name, result in record["cases"].items()}
    missing = [case.name for case in cases if case.name not in results]
    print(f"{given.out}: {len(results)} cases, {[*results.values()].count('failed')} failed")
    if missing:
        print(f"missing (run the same command again): {', '.join(missing)}")
    return 1 if "failed" in results.values() else 0


if __name__ == "__main__":
    sys.exit(main())
