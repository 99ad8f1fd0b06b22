"""Decides which deployments are in memory. Knows engines by their protocol and bytes; knows no HTTP and no SQL."""
