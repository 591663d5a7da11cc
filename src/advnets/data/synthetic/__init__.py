"""Synthetic distributions of points in one or two dimensions, with known densities."""
