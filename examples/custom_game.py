"""A custom game with its own objective: advnets train examples/custom_game.py:game --data mnist"""

from advnets import config
from advnets.games.gan import GAN
from advnets.protocols import PhaseOutput


def least_squares(logits, target):
    """Return ½ E(a - target)² (Mao et al. 2017); D's target is 1 for images, 0 for samples."""
    return 0.5 * (logits.float() - target).square().mean()


class LeastSquares(GAN):
    """A GAN whose players minimize the least-squares losses; G's target is 1."""

    def discriminator(self, players, batch, rng):  # noqa: D102
        fake = self.samples(players, batch, rng).detach()
        real, fake = (self.logits(players, x, batch, rng) for x in (batch.images, fake))
        loss = least_squares(real, 1) + least_squares(fake, 0)
        return PhaseOutput({"discriminator": loss}, {"a(x)": real.mean(), "a(G(z))": fake.mean()})

    def generator(self, players, batch, rng):  # noqa: D102
        fake = self.samples(players, batch, rng)
        return PhaseOutput({"generator": least_squares(self.logits(players, fake, batch, rng), 1)})


game = LeastSquares(config.GANGame())
