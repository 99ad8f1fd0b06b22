"""How many numbers a GGUF model keeps while it runs: of each token in its attention, of each sequence in its states.

Counted from the header as llama.cpp lays them out. Layers differ: some have fewer heads of keys, narrower ones behind a
window, those of another layer, or none at all and a state instead, which is as large after one token as after a
thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from appliance.store.gguf_header import ArrayValue, Value


class Facts(Protocol):
    """The keys of one architecture."""

    def of_architecture(self, key: str) -> Value | None:
        """Its value, whatever it is."""

    def count(self, key: str) -> int | None:
        """A count."""

    def counts(self, key: str) -> tuple[int, ...]:
        """One count, or one per layer; empty when the key is absent."""


def cache_values_per_token(facts: Facts) -> int | None:
    """Keys and values of all layers together; None where the header does not say."""
    kv_heads, layers = kv_heads_of_layers(facts), facts.count("block_count")
    if kv_heads is None or not layers:
        return None
    usual = _usual_width(facts)
    keys, values = facts.count("attention.key_length") or usual, facts.count("attention.value_length") or usual
    narrow_keys = facts.count("attention.key_length_swa") or keys
    narrow_values = facts.count("attention.value_length_swa") or values
    own = layers - min(layers, facts.count("attention.shared_kv_layers") or 0)
    has_window = _windows(facts, layers)
    return sum(
        kv_heads[layer] * (narrow_keys + narrow_values if has_window[layer] else keys + values) for layer in range(own)
    )


def usual_cache_values_per_token(facts: Facts) -> int | None:
    """What it were if all layers had the most heads, as wide as the keys: what the rest of a card says."""
    found = facts.counts("attention.head_count_kv") or facts.counts("attention.head_count")
    layers = facts.count("block_count")
    if not found or not layers:
        return None
    return 2 * layers * max(found) * (facts.count("attention.key_length") or _usual_width(facts))


def state_values_per_sequence(facts: Facts) -> int:
    """What layers with a state keep of a sequence; 0 for a model of attention alone."""
    kv_heads = kv_heads_of_layers(facts) or []
    layers = sum(not heads for heads in kv_heads) or facts.count("block_count") or 0
    return layers * _state_of_a_layer(facts)


def kv_heads_of_layers(facts: Facts) -> Sequence[int] | None:
    """Heads of keys in each layer; 0 in those without attention. None where the header does not say."""
    found = facts.counts("attention.head_count_kv") or facts.counts("attention.head_count")
    layers = facts.count("block_count")
    if not found or not layers:
        return None
    if len(found) == layers > 1:
        return found
    most, interval = max(found), facts.count("full_attention_interval") or 1
    return [0 if (layer + 1) % interval else most for layer in range(layers)]


def _usual_width(facts: Facts) -> int:
    """Of a head, where the header does not say."""
    width, most_heads = facts.count("embedding_length"), max(facts.counts("attention.head_count"), default=0)
    return width // most_heads if width and most_heads else 0


def _windows(facts: Facts, layers: int) -> Sequence[bool]:
    """Which layers see a window only, as far as the header lists them."""
    found = facts.of_architecture("attention.sliding_window_pattern")
    listed = found.values if isinstance(found, ArrayValue) else None
    return [bool(each) for each in listed] if listed is not None and len(listed) == layers else [False] * layers


def _state_of_a_layer(facts: Facts) -> int:
    width = facts.count("embedding_length") or 0
    if inner := facts.count("ssm.inner_size"):
        state, groups = facts.count("ssm.state_size") or 0, facts.count("ssm.group_count") or 0
        return max(0, (facts.count("ssm.conv_kernel") or 1) - 1) * (inner + 2 * groups * state) + state * inner
    if convolved := facts.count("shortconv.l_cache"):
        return (convolved - 1) * width
    if head := facts.count("wkv.head_size"):
        return (facts.count("token_shift_count") or 2) * width + width * head
    return 0
