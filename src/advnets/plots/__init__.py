"""Plots and image files: training curves, points, image grids."""
