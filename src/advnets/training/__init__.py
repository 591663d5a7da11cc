"""Algorithm 1 and what keeps it alive: the loop, checkpoints, the weight average."""
