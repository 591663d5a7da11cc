"""Ours beside loops of our own writing as others write them: the same nets, batch and data."""
