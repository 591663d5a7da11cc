"""File formats of image datasets, parsed within the bounds of what a file can hold."""
