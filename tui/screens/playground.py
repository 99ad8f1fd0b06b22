"""The playground: choose a deployment, send it something, see the answer arrive with its pace.

A worker streams and posts what it hears; the handlers here own the conversation. Cancelling the worker closes the
connection, which stops the computation on the server.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Select, Static
from textual.worker import Worker

from appliance.wire import admin, sgp_v3
from tui.background import Work, in_background
from tui.client import Client
from tui.conversation import Conversation, Pace, Settings
from tui.keymap import AREAS, bindings
from tui.messages import Failed
from tui.problems import ConsoleError
from tui.records import Embeddings, Ranking
from tui.screens.base import ConsoleScreen
from tui.screens.playground_settings import SettingsForm
from tui.widgets.composer import Composer
from tui.widgets.results import score_table, vector_table
from tui.widgets.transcript import Transcript, Turn

REDRAW_SECONDS = 0.05
"""Text that arrives faster is shown together: a redraw per token would cost more than the token."""

PROMPTS = {
    "CHAT_COMPLETION": "Message",
    "COMPLETION": "Text to continue",
    "AGENT": "Message to the agent",
    "EMBEDDING": "Texts, one per line",
    "RERANKING": "Documents, one per line",
}


class PlaygroundScreen(ConsoleScreen):
    """See the module."""

    area = "playground"
    typing = True
    BINDINGS = bindings(AREAS["playground"].actions)

    class Streamed(Message):
        """More of the answer."""

        def __init__(self, text: str, pace: Pace) -> None:
            super().__init__()
            self.text = text
            self.pace = pace

    class Ended(Message):
        """The stream ended by itself."""

        def __init__(self, pace: Pace) -> None:
            super().__init__()
            self.pace = pace

    class Acted(Message):
        """An agent did its step."""

        def __init__(self, result: sgp_v3.AgentResult) -> None:
            super().__init__()
            self.result = result

    class Embedded(Message):
        """Vectors came back."""

        def __init__(self, texts: list[str], answer: Embeddings) -> None:
            super().__init__()
            self.texts = texts
            self.answer = answer

    class Ranked(Message):
        """Scores came back."""

        def __init__(self, documents: list[str], answer: Ranking) -> None:
            super().__init__()
            self.documents = documents
            self.answer = answer

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        super().__init__(client)
        self._clock = clock
        self._conversation = Conversation()
        self._settings = Settings()
        self._deployments: dict[str, admin.DeploymentState] = {}
        self._wanted: str | None = None
        self._talking_to: str | None = None
        self._request: Worker[None] | None = None
        self._choosing = False
        """True while the list of deployments is open."""
        self._question_turn: Turn | None = None
        self._answer_turn: Turn | None = None

    def compose_body(self) -> ComposeResult:
        """Deployment and settings, transcript, query, prompt."""
        with Horizontal(id="playground-head"):
            yield Select[str]([], prompt="choose a deployment (Ctrl+O)", id="deployment", compact=True)
            yield Static("", id="settings-line", markup=False)
        yield Transcript(id="transcript")
        query = Input(placeholder="what the documents are ranked by", id="query", compact=True)
        query.border_title = "Query"
        yield query
        yield Composer(id="composer", show_line_numbers=False, compact=True)

    def on_mount(self) -> None:
        """Begin where text is typed."""
        self._show_settings()
        self._fit_to_type()
        self._focus_text()

    # --- which deployment ------------------------------------------------------------------------------------

    def show_node(self, node: admin.State) -> None:
        """Offer the deployments that exist now; the chosen one stays chosen."""
        offered = {deployment.id: deployment for deployment in node.deployments}
        if _names(offered) != _names(self._deployments):
            chosen = self._wanted or self._chosen_id
            self._deployments = offered
            self._select.set_options([(f"{d.name}  {d.model_type}", d.id) for d in offered.values()])
            self._choose(chosen if chosen in offered else self._first_chat())
        self._deployments = offered

    def try_deployment(self, deployment_id: str) -> None:
        """Choose a deployment because another screen asks for it."""
        self._wanted = deployment_id
        self._choose(deployment_id)
        self.query_one(Composer).focus()

    def _choose(self, deployment_id: str | None) -> None:
        if deployment_id is not None and deployment_id in self._deployments:
            self._select.value = deployment_id
            self._wanted = None
            self._begin_with(deployment_id)

    def _first_chat(self) -> str | None:
        chatting = [d.id for d in self._deployments.values() if d.model_type == "CHAT_COMPLETION"]
        return next(iter([*chatting, *self._deployments]), None)

    def on_select_changed(self, event: Select.Changed) -> None:
        """The operator chose from the list; its empty line chooses nothing new."""
        if self._chosen_id is None:
            self._choose(self._talking_to)
            return
        self._begin_with(self._chosen_id)
        self._focus_text()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Closing the list, with or without a choice, leads back to where text is typed."""
        if event.widget is self._select and self._choosing:
            self._focus_text()
        self._choosing = event.widget.parent is self._select

    def _focus_text(self) -> None:
        self._query.focus() if self._query.display else self.query_one(Composer).focus()

    def _begin_with(self, deployment_id: str) -> None:
        """Another deployment: another conversation. The list reports late, so a repeated choice must do nothing."""
        if deployment_id != self._talking_to:
            self._talking_to = deployment_id
            self.action_clear()
            self._fit_to_type()

    def _fit_to_type(self) -> None:
        model_type = self._model_type
        composer = self.query_one(Composer)
        tool = self._conversation.awaited_tool
        composer.border_title = f"Result of {tool}" if tool else PROMPTS.get(model_type, "Message")
        composer.enter_sends = model_type not in ("EMBEDDING", "RERANKING")
        composer.border_subtitle = "Enter sends · Ctrl+J new line" if composer.enter_sends else "Ctrl+R runs"
        self._query.display = model_type == "RERANKING"
        self.query_one("#settings-line").display = composer.enter_sends

    @property
    def _select(self) -> Select[str]:
        return self.query_one("#deployment", Select)

    @property
    def _chosen_id(self) -> str | None:
        return None if self._select.is_blank() else str(self._select.value)

    @property
    def _chosen(self) -> admin.DeploymentState | None:
        return self._deployments.get(self._chosen_id or "")

    @property
    def _model_type(self) -> str:
        return self._chosen.model_type if self._chosen else "CHAT_COMPLETION"

    # --- sending ---------------------------------------------------------------------------------------------

    def on_composer_sent(self, event: Composer.Sent) -> None:
        """Enter."""
        self.action_send()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in the query goes on to the documents."""
        self.query_one(Composer).focus()

    def action_send(self) -> None:
        """Send what was typed, unless an answer is still coming."""
        text = self.query_one(Composer).text.strip()
        deployment = self._chosen
        if self._answering or not text:
            return
        if deployment is None:
            self.notify("choose a deployment first: Ctrl+O", severity="warning")
            return
        send = {"EMBEDDING": self._embed, "RERANKING": self._rerank}.get(deployment.model_type, self._say)
        send(deployment, text)

    def _say(self, deployment: admin.DeploymentState, text: str) -> None:
        tool = self._conversation.awaited_tool
        self._conversation.say(text)
        self._question_turn = self._transcript.add("user", text, label=f"result of {tool}" if tool else "you")
        self.query_one(Composer).clear()
        self._answer_turn = self._transcript.add("assistant", label=deployment.name)
        if deployment.model_type == "AGENT":
            body = self._conversation.agent_body(self._settings)
            step = partial(self.client.agent_step, deployment.model_id, deployment.id, body)
            self._begin(partial(self._answer, step, self.Acted))
            return
        path, body_fields = "/v1/chat/completions", self._conversation.chat_body(deployment.id, self._settings)
        if deployment.model_type == "COMPLETION":
            path, body_fields = "/v1/completions", {"model": deployment.id, "prompt": text, **self._settings.sampling()}
        self._begin(partial(self._stream, path, body_fields))

    def _embed(self, deployment: admin.DeploymentState, text: str) -> None:
        texts = [line for line in text.splitlines() if line.strip()]
        embed = partial(self.client.embed, deployment.id, texts)
        self._begin(partial(self._answer, embed, partial(self.Embedded, texts)))

    def _rerank(self, deployment: admin.DeploymentState, text: str) -> None:
        documents = [line for line in text.splitlines() if line.strip()]
        query = self._query.value.strip()
        if not query:
            self.notify("write the query to rank by", severity="warning")
            self._query.focus()
            return
        rerank = partial(self.client.rerank, deployment.id, query, documents)
        self._begin(partial(self._answer, rerank, partial(self.Ranked, documents)))

    def _begin(self, work: Work) -> None:
        self._request = in_background(self, work, group="request")

    async def _stream(self, path: str, body: dict[str, Any]) -> None:
        """Worker: pass on what arrives, in portions."""
        pace = Pace(began=self._clock())
        waiting, shown_at = "", pace.began
        try:
            async with aclosing(self.client.stream(path, body)) as chunks:
                async for chunk in chunks:
                    pace.usage = chunk.usage or pace.usage
                    pace.finish_reason = chunk.finish_reason or pace.finish_reason
                    if chunk.text:
                        pace.heard(self._clock())
                        waiting += chunk.text
                    if waiting and self._clock() - shown_at >= REDRAW_SECONDS:
                        self.post_message(self.Streamed(waiting, pace))
                        waiting, shown_at = "", self._clock()
        except ConsoleError as problem:
            self.post_message(Failed(problem))
        else:
            self.post_message(self.Streamed(waiting, pace))
            self.post_message(self.Ended(pace))

    # --- answers ---------------------------------------------------------------------------------------------

    def on_playground_screen_streamed(self, event: Streamed) -> None:
        """Show more of the answer and its pace."""
        if self._answer_turn is not None:
            self._answer_turn.grow(event.text)
            self._answer_turn.end(event.pace.summary())
            self._transcript.follow()

    def on_playground_screen_ended(self, event: Ended) -> None:
        """Keep the answer for the next turn."""
        if self._answer_turn is not None:
            self._conversation.answer(self._answer_turn.text)
        self._answer_turn = None

    def on_playground_screen_acted(self, event: Acted) -> None:
        """Show the answer or the tool that the agent wants run."""
        self._conversation.agent_action(event.result)
        request = event.result.context.tool_request
        if self._answer_turn is not None:
            self._answer_turn.grow(
                f"{request.name}({request.arguments})" if request else event.result.context.content or ""
            )
            self._answer_turn.end(f"wants {request.name}: type its result" if request else "")
        self._answer_turn = None
        self._fit_to_type()

    def on_playground_screen_embedded(self, event: Embedded) -> None:
        """Show the vectors."""
        length = len(event.answer.data[0].embedding) if event.answer.data else 0
        tokens = f" · {event.answer.usage.prompt_tokens} tokens" if event.answer.usage else ""
        self._transcript.add_table(
            vector_table(event.texts, event.answer),
            label="vectors",
            summary=f"{len(event.answer.data)} of {length} numbers{tokens}",
        )

    def on_playground_screen_ranked(self, event: Ranked) -> None:
        """Show the scores."""
        query = self._query.value.strip()
        self._transcript.add_table(score_table(event.documents, event.answer), label="ranking", summary=f"for: {query}")

    def on_failed(self, event: Failed) -> None:
        """Show the refusal. A question without any answer goes back into the text field."""
        event.stop()
        question, answer = self._question_turn, self._answer_turn
        self._question_turn = self._answer_turn = None
        if question is not None and answer is not None:
            self._give_back(question, answer)
        self._transcript.add("error", event.problem.detail, label=event.problem.title)

    def _give_back(self, question: Turn, answer: Turn) -> None:
        if answer.text:
            self._conversation.answer(answer.text)
            return
        answer.remove()
        question.remove()
        self._conversation.take_back()
        composer = self.query_one(Composer)
        if not composer.text:
            composer.text = question.text

    # --- other keys ------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Stop the answer; with nothing to stop, leave the text field so that letters and digits are keys again."""
        if not self._answering or self._request is None:
            self._transcript.focus()
            return
        self._request.cancel()
        if self._answer_turn is not None:
            self._answer_turn.end(f"{self._answer_turn.summary} · stopped".lstrip(" ·"))
            self._conversation.answer(self._answer_turn.text)
        self._answer_turn = None

    def action_choose(self) -> None:
        """Open the list of deployments."""
        self._select.focus()
        self._select.action_show_overlay()

    def action_settings(self) -> None:
        """Open the settings."""
        self.app.push_screen(SettingsForm(self._settings, self._model_type), self._take_settings)

    def _take_settings(self, settings: Settings | None) -> None:
        if settings is not None:
            self._settings = settings
            self._show_settings()

    def action_clear(self) -> None:
        """Forget the conversation."""
        if self._answering:
            self.action_stop()
        self._conversation = Conversation()
        self._transcript.forget()

    def _show_settings(self) -> None:
        longest = self._settings.max_tokens
        system = " · system set" if self._settings.system else ""
        text = f"temperature {self._settings.temperature:g} · at most {longest or 'any number of'} tokens{system}"
        self.query_one("#settings-line", Static).update(text)

    @property
    def _answering(self) -> bool:
        return self._request is not None and not self._request.is_finished

    @property
    def _query(self) -> Input:
        return self.query_one("#query", Input)

    @property
    def _transcript(self) -> Transcript:
        return self.query_one(Transcript)


def _names(deployments: dict[str, admin.DeploymentState]) -> list[tuple[str, str]]:
    return [(deployment.id, deployment.name) for deployment in deployments.values()]
