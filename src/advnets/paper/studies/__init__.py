"""Studies that several sections of the paper show results of."""
