"""Counted operations, compared with PyTorch's own counter on training steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from advnets import config, presets
from advnets.bench.flops import forward_flops, step_flops
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.training.step import train_step

DENSE = (
    config.MLPGenerator(latent_dim=8, hidden_sizes=(24, 16)),
    config.MaxoutDiscriminator(hidden_sizes=(12, 10), pieces=3),
)
STRIDED = (
    config.DCGANGenerator(latent_dim=8, base_channels=4, kernel_size=4),
    config.DCGANDiscriminator(base_channels=4, kernel_size=4),
)
GAMES = [
    config.GANGame(),
    config.GANGame(k=3),
    config.GANGame(reuse_fakes=True),
    config.GANGame(updates="simultaneous"),
]


@pytest.mark.parametrize("pair", [DENSE, STRIDED], ids=["dense", "strided"])
@pytest.mark.parametrize("game", GAMES, ids=["fresh", "k=3", "shared", "simultaneous"])
def test_useful_operations_are_those_of_a_training_step(pair, game):
    """Exactly: the formula omits no product, and a training step has no others.

    Except one: simultaneous updates also propagate G's gradient, which is 0, through real images.
    """
    start = presets.get_preset("digits")
    stage = replace(start.stage, generator=pair[0], discriminator=pair[1], game=game)
    run = replace(start.with_stage(stage), data=replace(start.data, batch_size=10))
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    table = setup.make_train_state(run, data, 0, torch.device("cpu"))
    g, d = table.players["generator"], table.players["discriminator"]
    useful = step_flops(
        game,
        forward_flops(g, torch.zeros(1, 8)),
        forward_flops(d, torch.zeros(1, *data.info.shape)),
    )
    with FlopCounterMode(display=False) as counter:
        train_step(table)
    d_total = forward_flops(d, torch.zeros(1, *data.info.shape)).total
    wasted = d_total if game.updates == "simultaneous" else 0
    assert counter.get_total_flops() == 10 * (useful + wasted)


def test_counting_uses_eval_mode_and_restores_the_mode():
    """Batch norm in training mode refuses a batch of one."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
    counted = forward_flops(net, torch.zeros(1, 3))
    assert (counted.first_layer, counted.total) == (30, 50)
    assert counted.weight_backward == 70
    assert net.training
