"""The vocabulary: values, entities and errors that every layer shares. Standard library and msgspec only."""
