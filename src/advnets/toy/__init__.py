"""Small games whose densities are known exactly."""
