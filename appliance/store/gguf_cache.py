"""How many numbers a GGUF model keeps while it runs: of each token in its attention, of each sequence in its states.

Counted from the header as llama.cpp lays them out. Layers differ: some have fewer heads of keys, narrower ones behind a
window, those of another layer, or none at all and a state instead, which is as large after one token as after a
thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from appliance.store.gguf_header import ArrayValue, Value

MOST_LAYERS = 4096
"""Several times what llama.cpp takes: no header makes a longer list here."""
MOST_NUMBERS = 2**53
"""What is more is no model; and it would not survive as JSON."""


class Facts(Protocol):
    """The keys of one architecture."""

    def of_architecture(self, key: str) -> Value | None:
        """Its value, whatever it is."""

    def counts(self, key: str) -> tuple[int, ...]:
        """One count, or one per layer; empty when the key is absent."""


def cache_values_per_token(facts: Facts) -> int | None:
    """Keys and values of all layers together; None where the header does not say."""
    kv_heads = kv_heads_of_layers(facts)
    if kv_heads is None:
        return None
    layers, usual = len(kv_heads), _usual_width(facts)
    keys, values = _number(facts, "attention.key_length") or usual, _number(facts, "attention.value_length") or usual
    narrow_keys = _number(facts, "attention.key_length_swa") or keys
    narrow_values = _number(facts, "attention.value_length_swa") or values
    own = layers - min(layers, _number(facts, "attention.shared_kv_layers"))
    has_window = _windows(facts, layers)
    found = sum(
        kv_heads[layer] * (narrow_keys + narrow_values if has_window[layer] else keys + values) for layer in range(own)
    )
    return found if found < MOST_NUMBERS else None


def usual_cache_values_per_token(facts: Facts) -> int | None:
    """What it were if all layers had the most heads, as wide as the keys: what the rest of a card says."""
    found = facts.counts("attention.head_count_kv") or facts.counts("attention.head_count")
    layers = _number(facts, "block_count")
    if not found or not layers:
        return None
    return 2 * layers * max(found) * (_number(facts, "attention.key_length") or _usual_width(facts))


def state_values_per_sequence(facts: Facts) -> int:
    """What layers with a state keep of a sequence; 0 for a model of attention alone."""
    kv_heads = kv_heads_of_layers(facts) or []
    layers = sum(not heads for heads in kv_heads) or min(_number(facts, "block_count"), MOST_LAYERS)
    found = layers * _state_of_a_layer(facts)
    return found if found < MOST_NUMBERS else 0


def kv_heads_of_layers(facts: Facts) -> Sequence[int] | None:
    """Heads of keys in each layer; 0 in those without attention. None where the header does not say."""
    found = facts.counts("attention.head_count_kv") or facts.counts("attention.head_count")
    layers = _number(facts, "block_count")
    if not found or not 0 < layers <= MOST_LAYERS:
        return None
    if len(found) == layers > 1:
        return found
    most, interval = max(found), _number(facts, "full_attention_interval") or 1
    return [0 if (layer + 1) % interval else most for layer in range(layers)]


def _usual_width(facts: Facts) -> int:
    """Of a head, where the header does not say."""
    most_heads = max(facts.counts("attention.head_count"), default=0)
    return _number(facts, "embedding_length") // most_heads if most_heads else 0


def _number(facts: Facts, key: str) -> int:
    """0 where there is none."""
    found = facts.of_architecture(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def _windows(facts: Facts, layers: int) -> Sequence[bool]:
    """Which layers see a window only, as far as the header lists them."""
    found = facts.of_architecture("attention.sliding_window_pattern")
    listed = found.values if isinstance(found, ArrayValue) else None
    return [bool(each) for each in listed] if listed is not None and len(listed) == layers else [False] * layers


def _state_of_a_layer(facts: Facts) -> int:
    width = _number(facts, "embedding_length")
    if inner := _number(facts, "ssm.inner_size"):
        state, groups = _number(facts, "ssm.state_size"), _number(facts, "ssm.group_count")
        return max(0, _number(facts, "ssm.conv_kernel") - 1) * (inner + 2 * groups * state) + state * inner
    if convolved := _number(facts, "shortconv.l_cache"):
        return (convolved - 1) * width
    if head := _number(facts, "wkv.head_size"):
        return (_number(facts, "token_shift_count") or 2) * width + width * head
    return 0
