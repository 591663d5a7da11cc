"""Views of a trained model, each written as an image and a JSON record."""
