"""Generators, discriminators and encoders; their random numbers come from the `RNG` they get."""
