"""Points of a line or a plane, drawn from distributions whose density is known."""
