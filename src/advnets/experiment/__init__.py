"""The only wiring: configs become data, players, a game and a loop around them."""
