"""Hugging Face data sets: by name, as Parquet or WebDataset shards, at hand or streamed."""
