"""Everything a run can be told, as plain data.

Frozen, without torch (so `--help` is instant), turned into flags by the command line and into
config.json by the run directory. A field's comment is its help text.
"""

from advnets.config.checks import at_least, check, probabilities
from advnets.config.data import Data, Framing
from advnets.config.nets import (
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
)
from advnets.config.run import (
    SGD,
    Adam,
    ConditionalGame,
    Config,
    Game,
    GameConfig,
    OptimizerConfig,
    Runtime,
    Stage,
    Ticks,
)

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "ConditionalGame",
    "Config",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Data",
    "DeconvGenerator",
    "DiscriminatorConfig",
    "Framing",
    "Game",
    "GameConfig",
    "GeneratorConfig",
    "MLPDiscriminator",
    "MLPGenerator",
    "MaxoutConvDiscriminator",
    "MaxoutDiscriminator",
    "OptimizerConfig",
    "Runtime",
    "Stage",
    "Ticks",
    "at_least",
    "check",
    "probabilities",
]
