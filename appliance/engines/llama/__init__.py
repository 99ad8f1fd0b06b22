"""The llama.cpp backend: GGUF weights, generation with continuous batching, embeddings and rankings."""

import os

# A step is a hundred barriers between OpenMP's threads. By default a thread that arrives first spins for milliseconds:
# beside any other busy process it burns the very time slice that the late one needs, and a step takes a hundred times
# longer. OpenMP itself spins this long where it knows of more threads than cores; on idle cores it costs nothing.
# libgomp reads it when it is loaded, so it must stand before the first import of the native library.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
