"""Pictures: where they come from, what range the nets see them in, and in what order."""
