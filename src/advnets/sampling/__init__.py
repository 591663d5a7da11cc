"""Draw samples from a trained generator, at random or selected by its discriminator."""
