"""Weights on disk: content-addressed blobs, and header checks that run before any native code sees a file.

Callers are the lifecycle layer and the command line, always in a worker thread: everything here blocks. Nothing here
knows the registry; a caller keeps what ``Store.import_paths`` returns and hands it back to find or remove the bytes.
"""
