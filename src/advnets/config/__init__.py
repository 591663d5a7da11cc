"""Everything a run can be told, as plain data.

Frozen, without torch (so `--help` is instant), turned into flags by the command line and into
config.json by the run directory. A field's comment is its help text.
"""

from advnets.config.data import Data, Framing
from advnets.config.encoders import MLPEncoder
from advnets.config.games import (
    AnyGame,
    CompletionGame,
    ConditionalGame,
    CustomGame,
    ElboGame,
    EncodingGame,
    Game,
    GameConfig,
    InferenceGame,
    SemiSupervisedGame,
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
    OptimizerConfig,
    Runtime,
    Stage,
    Ticks,
)
from advnets.config.validation import Checked, at_least, check, probabilities, sizes

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AnyGame",
    "Checked",
    "CompletionGame",
    "ConditionalGame",
    "Config",
    "CustomGame",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Data",
    "DeconvGenerator",
    "DiscriminatorConfig",
    "ElboGame",
    "EncodingGame",
    "Framing",
    "Game",
    "GameConfig",
    "GeneratorConfig",
    "InferenceGame",
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
    "Ticks",
    "at_least",
    "check",
    "probabilities",
    "sizes",
    "with_wider_latent",
]
