"""Screens: each asks the client from workers, owns what came back, and hands it to its widgets."""
