"""The only door to llama.cpp: typed wrappers over its C API, free of any policy.

Everything else in this package works with these classes and knows no ctypes. A wrapper owns its C object, frees it on
``close`` and is used by one thread at a time; only the vocabulary (tokenizing, pieces) may be used by any thread.

Calls that finish in microseconds go through a handle that keeps the interpreter lock: giving it up and asking for it
back costs more than the call, and under load up to a whole switch interval. Long calls (decode, load, tokenize,
grammar compilation) release it.
"""

import llama_cpp.llama_cpp as c

from appliance.engines.llama.runtime.context import POOLINGS, Batch, Context, ContextOptions
from appliance.engines.llama.runtime.grammar import Candidates, Grammar
from appliance.engines.llama.runtime.library import Bytes, Floats, Ints, complaint, gpus, initialise, log_callback
from appliance.engines.llama.runtime.model import Model, not_loaded, vocabulary_of
from appliance.engines.llama.runtime.vocabulary import Gap, Vocabulary

__all__ = [
    "POOLINGS",
    "Batch",
    "Bytes",
    "Candidates",
    "Context",
    "ContextOptions",
    "Floats",
    "Gap",
    "Grammar",
    "Ints",
    "Model",
    "Vocabulary",
    "c",
    "complaint",
    "gpus",
    "initialise",
    "log_callback",
    "not_loaded",
    "vocabulary_of",
]
