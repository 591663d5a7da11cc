"""Small games whose densities are known: a game on a line, and one on a ring of modes."""
