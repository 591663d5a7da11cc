"""An array of images in memory as training data: python examples/custom_data.py"""

import numpy as np

import advnets


def crosses(n, seed=0):
    """Return n images of 16 x 16 bytes, each with a white cross at a random place."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 16, 16), np.uint8)
    for image, (row, column) in zip(images, rng.integers(0, 16, (n, 2)), strict=True):
        image[row, :] = image[:, column] = 255
    return images


if __name__ == "__main__":
    advnets.train("digits", data=crosses(2000), steps=500, out="runs/crosses")
