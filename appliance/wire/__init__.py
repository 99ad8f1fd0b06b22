"""msgspec structs that cross HTTP, one module per dialect. Shapes and ranges only; no behaviour."""
