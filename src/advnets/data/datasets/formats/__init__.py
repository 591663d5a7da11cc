"""Parsers of file formats, which check the sizes that a file declares before allocating memory."""
