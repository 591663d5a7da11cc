"""Looking into a run: each module shows one thing of it, as a image and as a record."""
