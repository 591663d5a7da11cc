"""Scores as text, and a run as one HTML page."""
