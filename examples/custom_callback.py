"""A custom callback, which observes the training: python examples/custom_callback.py"""

import advnets


class BestDiscrimination(advnets.Callback):
    """A callback that finds the step with the largest D(x) - D(G(z)), and this difference."""

    def __init__(self):
        self.best = (0.0, 0)

    def on_log(self, step, metrics):  # noqa: D102
        self.best = max(self.best, (metrics["d_real"] - metrics["d_fake"], step))


if __name__ == "__main__":
    callback = BestDiscrimination()
    advnets.train("digits", steps=300, callbacks=[callback])
    print(callback.best)
