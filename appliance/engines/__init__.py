"""Backends and the engines they make: llama.cpp and ONNX Runtime behind the same few protocols."""

import os

# NumPy's products are small here. Split over threads, they wait for each other by spinning, and beside an engine that
# computes on the same cores a fraction of a millisecond becomes ten. OpenBLAS reads it when it is loaded, so it must
# stand before the first import of NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
