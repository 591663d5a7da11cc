"""The entry point of `python -m advnets`."""

import sys

from advnets.cli.main import main

sys.exit(main())
