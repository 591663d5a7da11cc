"""Benchmarks: this package and plain PyTorch on the same networks, batch sizes and data."""
