"""Widgets: one per file, each shows a value that a screen gives it and decides nothing."""
