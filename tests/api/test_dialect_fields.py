"""Every field of the Messages and the Ollama dialect, and of v5's configurations, is decided; the page says how."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from appliance.wire import anthropic, ollama, sgp_v5

PAGE = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
ADDRESSED = {"model", "messages", "prompt", "input"}
"""What is asked, and of whom: needs no row."""


def section(title: str) -> set[str]:
    """The words in backquotes of a section."""
    text = PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`\n]+)`", text))))


@pytest.mark.parametrize(
    ("title", "body"),
    [
        ("Anthropic's Messages", anthropic.MessageCreate),
        ("Anthropic's Messages", anthropic.TokensCount),
        ("Ollama", ollama.ChatCreate),
        ("Ollama", ollama.GenerateCreate),
        ("Ollama", ollama.EmbedCreate),
        ("Ollama", ollama.EmbeddingsCreate),
        ("Ollama", ollama.Options),
        ("Dialect v5", sgp_v5.ModelImage),
        ("Dialect v5", sgp_v5.ModelInfra),
        ("Dialect v5", sgp_v5.LlmEngineConfiguration),
        ("Dialect v5", sgp_v5.InferenceConfiguration),
    ],
)
def test_the_page_names_every_field(title: str, body: type[msgspec.Struct]) -> None:
    """A field that is accepted and stands nowhere would be one that is ignored."""
    fields = {field.encode_name for field in msgspec.structs.fields(body)} - ADDRESSED - {"options"}
    assert fields - section(title) == set()
