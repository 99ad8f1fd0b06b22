"""The llama.cpp backend: GGUF weights, generation with continuous batching, embeddings and rankings."""
