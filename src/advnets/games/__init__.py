"""Games: the phases of a training step and the losses of the players; one file for each game."""
