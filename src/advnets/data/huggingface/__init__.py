"""Hugging Face datasets: by name, as Parquet or WebDataset shards, at hand or streamed."""
