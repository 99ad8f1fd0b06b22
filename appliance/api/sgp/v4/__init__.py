"""Dialect v4 of SGP: the same operations as v3 in pages, views and typed routes, as its official client reads them."""
