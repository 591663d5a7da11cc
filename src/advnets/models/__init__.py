"""Generators and discriminators, built of layers that draw their noise from keyed sources."""
