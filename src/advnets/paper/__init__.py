"""The 2014 paper as something one runs: every equation, proposition, figure and table of it."""
