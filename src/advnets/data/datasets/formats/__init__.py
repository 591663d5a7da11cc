"""File formats of image data sets, parsed within the bounds of what a file can hold."""
