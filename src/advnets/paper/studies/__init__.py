"""Experiments whose results sections of the paper show."""
