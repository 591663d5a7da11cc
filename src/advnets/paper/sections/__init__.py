"""The sections of the paper, each named as `advnets paper` names it."""
