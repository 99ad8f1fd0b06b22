"""Dialect v5 of SGP: models as one thing each, OpenAI's bodies, generic inference, and files."""
