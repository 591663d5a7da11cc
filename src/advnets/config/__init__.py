"""Everything a run can be told, as plain data.

Frozen, without torch (so `--help` is instant), turned into flags by the command line and into
config.json by the run directory. A field's comment is its help text.
"""

from advnets.config.data import Data, Framing
from advnets.config.encoders import MLPEncoder
from advnets.config.games import (
    AnyGame,
    ConditionalGame,
    CustomGame,
    Game,
    GameConfig,
    InferenceGame,
    InpaintingGame,
    LatentRegressionGame,
    SemiSupervisedGame,
    VAEGame,
)
from advnets.config.models import (
    Activation,
    DCGANDiscriminator,
    DCGANGenerator,
    DeconvGenerator,
    DiscriminatorConfig,
    GeneratorConfig,
    MaxoutConvDiscriminator,
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    NoDiscriminator,
    ResidualDiscriminator,
    ResidualGenerator,
    SemiSupervisedConvDiscriminator,
    SemiSupervisedDiscriminator,
    with_wider_latent,
)
from advnets.config.run import (
    SGD,
    Adam,
    Config,
    Intervals,
    OptimizerConfig,
    Runtime,
    Stage,
)
from advnets.config.validation import ValidatedConfig, at_least, check, probabilities, sizes

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AnyGame",
    "ConditionalGame",
    "Config",
    "CustomGame",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Data",
    "DeconvGenerator",
    "DiscriminatorConfig",
    "Framing",
    "Game",
    "GameConfig",
    "GeneratorConfig",
    "InferenceGame",
    "InpaintingGame",
    "Intervals",
    "LatentRegressionGame",
    "MLPDiscriminator",
    "MLPEncoder",
    "MLPGenerator",
    "MaxoutConvDiscriminator",
    "MaxoutDiscriminator",
    "NoDiscriminator",
    "OptimizerConfig",
    "ResidualDiscriminator",
    "ResidualGenerator",
    "Runtime",
    "SemiSupervisedConvDiscriminator",
    "SemiSupervisedDiscriminator",
    "SemiSupervisedGame",
    "Stage",
    "VAEGame",
    "ValidatedConfig",
    "at_least",
    "check",
    "probabilities",
    "sizes",
    "with_wider_latent",
]
