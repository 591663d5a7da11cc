"""Looking into a run: each module shows one thing of it, as an image and as a record."""
