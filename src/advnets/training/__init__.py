"""Training: Algorithm 1, its loop, optimizers, checkpoints and the EMA of weights."""
