"""Looking into a run: each module shows one thing of it, as a picture and as a record."""
