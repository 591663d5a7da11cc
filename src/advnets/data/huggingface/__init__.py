"""Hugging Face datasets: by name, as Parquet or WebDataset shards, from local files or streamed."""
