"""A script as in tutorials: `python -m advnets.bench.epoch DIR` trains one epoch on MNIST.

It imports no more than such a script does.
"""

from __future__ import annotations

import sys

import numpy as np

from advnets.bench import baselines
from advnets.data.dataset import Split
from advnets.data.datasets.mnist import open_mnist
from advnets.data.spec import dataset_folders

if __name__ == "__main__":
    train = open_mnist(dataset_folders("mnist", sys.argv[1] or None)).train
    assert isinstance(train, Split)
    images = baselines.ArrayDataset(np.asarray(train.read(slice(None))), symmetric=True)
    trained = 0
    for done in baselines.tutorial_loop(baselines.mlp(), images):
        trained += done
        if trained >= len(images):
            break
