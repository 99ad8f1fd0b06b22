"""The SGP dialects."""
