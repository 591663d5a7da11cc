"""Runs: the data, players, game and trainer that a config describes, and trained models."""
