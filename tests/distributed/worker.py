"""Train cases in one of several processes, in float64, and let rank 0 save the final tensors.

    python worker.py CASES.json OUT.safetensors [--float32]

CASES.json has for each case the preset, its overrides and the number of steps.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from advnets import distributed, rng
from advnets.config.overrides import apply_overrides
from advnets.data.loader import BatchTransform
from advnets.data.prepared import open_training_data
from advnets.experiment import setup
from advnets.presets import PRESETS
from advnets.protocols import Batch
from advnets.training import devices, optimizers
from advnets.training.checkpoint import named_tensors
from advnets.training.ema import EMA
from advnets.training.step import train_step


def use_float64() -> None:
    """Compute everything in float64: networks, random numbers, data and losses."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    draw = rng.RNG._tensor
    rng.RNG._tensor = lambda self, array: draw(self, array).double()
    make_batch = BatchTransform.make_batch
    BatchTransform.make_batch = lambda self, *arguments: double_images(make_batch(self, *arguments))
    # The fused optimizers take these in float32 only; they are the same in all processes.
    optimizers._found_inf = lambda finite: (~finite).to(torch.float32)


def double_images(batch: Batch) -> Batch:
    """Return a batch with images of float64."""
    return replace(batch, images=batch.images.double())


def train(preset: str, overrides: dict, steps: int) -> dict[str, torch.Tensor]:
    """Train a preset, and return the weights, averages and optimizer states."""
    config = apply_overrides(
        PRESETS[preset].config, {"steps": steps, "threads": 1, "precision": "float32", **overrides}
    )
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # that of checkpoints
    config = setup.with_pretrained_generator(config)
    torch.set_default_dtype(dtype)
    data = open_training_data(config.data)
    config = setup.resolve_config(config, data.info, devices.resolve(config.runtime))
    device = devices.setup_process(config.runtime)
    state = setup.make_train_state(config, data, len(config.stages) - 1, device)
    for optimizer in state.optimizers.values():
        for name in ("step", "log_beta2_product"):
            if name in optimizer.state:
                optimizer.state[name] = [t.to(torch.float32) for t in optimizer.state[name]]
    emas = {name: EMA(net, 500, config.batch_size) for name, net in state.players.items()}
    for _ in range(steps):
        train_step(state)
        for name, ema in emas.items():
            ema.update(state.players[name], state.progress.step)
    tensors: dict[str, torch.Tensor] = {}
    for name, net in state.players.items():
        tensors |= named_tensors(f"players/{name}", net)
        tensors |= named_tensors(f"optimizers/{name}", state.optimizers[name].state)
        tensors |= named_tensors(f"ema/{name}", emas[name].module)
    return tensors


def main(cases: Path, out: Path, *, double: bool) -> None:
    if double:
        use_float64()
    with distributed.process_group():
        results = {
            f"{name}:{key}": tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, (preset, overrides, steps) in json.loads(cases.read_text()).items()
            for key, tensor in train(preset, overrides, steps).items()
        }
        if distributed.is_main():
            save_file(results, out)


main(Path(sys.argv[1]), Path(sys.argv[2]), double="--float32" not in sys.argv)
