"""Near duplicates by the code that an autoencoder of the set itself gives them.

Source: Radford et al. 2015, section 4.1: a 3072-128-3072 denoising autoencoder with rectifiers and
dropout, on 32 x 32 centre crops; the bits of a code say which of its 128 units are active. The
paper takes pictures of one code for one; here some bits may differ, as a copy's do that was encoded
anew. Codes are compared within bands, in time about proportional to the number of pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.data.image_folder.duplicates import exact_groups, joined

SIDE, UNITS = 32, 128
STEPS, BATCH, RATE, DROP = 2000, 256, 1e-3, 0.2
_BLOCK = 4096
MOST_BITS = 12
"""Of two codes, that may differ. Copies encoded anew differ in 2 or 3, unlike pictures in 25 on."""
_NEIGHBOURS = 32


def code_groups(pictures: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0) -> list[list[int]]:
    """The numbers of pictures whose codes differ in at most 12 bits, where there are two or more.

    Only codes with an equal band of 16 bits are compared, each with the 32 next to it, so that of
    very many that are alike some pairs may be missed.
    """
    n = len(pictures)
    if n < 2:
        return []
    packed = np.packbits(picture_codes(pictures, seed), axis=1)
    words = np.ascontiguousarray(packed).view(np.uint64)
    group = np.arange(n)
    for key in np.ascontiguousarray(packed).view(np.uint16).T:
        order = np.lexsort((words[:, 1], words[:, 0], key))
        for shift in range(1, min(_NEIGHBOURS, n - 1) + 1):
            one, other = order[:-shift], order[shift:]
            near = (key[one] == key[other]) & (group[one] != group[other])
            one, other = one[near], other[near]
            alike = np.bitwise_count(words[one] ^ words[other]).sum(1) <= MOST_BITS
            group = joined(group, one[alike], other[alike])
    return exact_groups(group.tolist())


def picture_codes(
    pictures: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0
) -> Bool[np.ndarray, "n 128"]:
    """Which of the code's units are active."""
    values = torch.from_numpy(pictures.reshape(len(pictures), -1))
    mean = values.float().mean(0) / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encode = _trained(values, mean)
    with torch.no_grad():
        bits = [encode(block.float() / 255 - mean) > 0 for block in values.split(_BLOCK)]
    return torch.cat(bits).numpy()


def _trained(values: UInt8[Tensor, "n pixels"], mean: Float[Tensor, " pixels"]) -> nn.Linear:
    """The encoder of an autoencoder that was trained to make up for what dropout took."""
    n, pixels = values.shape
    encode, decode = nn.Linear(pixels, UNITS), nn.Linear(UNITS, pixels)
    mover = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=RATE)
    for _ in range(STEPS):
        x = values[torch.randint(n, (min(BATCH, n),))].float() / 255 - mean
        h = F.dropout(F.relu(encode(F.dropout(x, DROP))), DROP)
        loss = F.mse_loss(decode(h), x)
        mover.zero_grad()
        loss.backward()
        mover.step()
    return encode
