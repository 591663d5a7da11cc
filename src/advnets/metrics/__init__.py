"""Scores: how close samples are to held-out pictures."""
