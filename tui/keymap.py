"""Every key of the console, in one table: the screens take their bindings from it, the help screen prints it.

Letters act on what is selected; where text is typed, only function and control keys do. A label fits a footer of
80 columns, an explanation is a line of the help.
"""

from __future__ import annotations

from msgspec import Struct
from textual.binding import Binding, BindingType


class Action(Struct, frozen=True):
    """A thing that a key does on a screen."""

    key: str
    """Textual's name of the key; several separated by commas."""
    action: str
    label: str
    """Word in the footer."""
    explanation: str
    """Line in the help."""
    shown: bool = True
    """False: only in the help."""
    key_display: str | None = None


class Area(Struct, frozen=True):
    """A screen: its name in the top bar, what it is for, and its keys."""

    title: str
    explanation: str
    actions: tuple[Action, ...]
    tab: str = ""
    """A shorter word for the top bar, where all areas stand beside each other."""


EVERYWHERE = (
    Action("f1,question_mark", "help", "Help", "this help", key_display="F1"),
    Action("1,f2", "show('dashboard')", "Dashboard", "dashboard", shown=False, key_display="1 F2"),
    Action("2,f3", "show('zoo')", "Zoo", "zoo, artifacts and imports", shown=False, key_display="2 F3"),
    Action("3,f4", "show('models')", "Models", "models and deployments", shown=False, key_display="3 F4"),
    Action("4,f5", "show('playground')", "Playground", "playground", shown=False, key_display="4 F5"),
    Action("5,f6", "show('keys')", "Keys", "API keys", shown=False, key_display="5 F6"),
    Action("6,f7", "show('upstreams')", "Upstreams", "endpoints of external vendors", shown=False, key_display="6 F7"),
    Action("7,f8", "show('batches')", "Batches", "files of requests that run", shown=False, key_display="7 F8"),
    Action("8,f9", "show('training')", "Training", "datasets and fine-tuning", shown=False, key_display="8 F9"),
    Action("ctrl+p", "command_palette", "Palette", "search all commands; change the theme", shown=False),
    Action("ctrl+q", "quit", "Quit", "leave the console; the server goes on", shown=False),
)

AREAS: dict[str, Area] = {
    "dashboard": Area(
        "Dashboard",
        "What the machine holds now, refreshed every second. A deployment that is READY but not resident loads on "
        "its first call. Predicted bytes are reserved before a load, measured bytes are what it really took. "
        "After a plus: weights that several residents share, in memory once. Work that is no engine (fine-tuning jobs) "
        "has a row too while it has memory or waits for it. Why a resident is HUNG, or the selected one waits, stands "
        "at the list's lower edge.",
        (
            Action("enter", "details", "Details", "settings, plan and last calls of a deployment, reason of a failure"),
            Action("p", "playground", "Try it", "open the selected deployment in the playground"),
            Action("tab", "app.focus_next", "Next table", "move between residents and deployments", shown=False),
        ),
        tab="Dash",
    ),
    "zoo": Area(
        "Zoo",
        "The catalogue lists well-known models and where to get their files. Copy a file below an import root of the "
        "server (the import folder of its home, or a mounted medium) and import it: it is hashed, checked, and becomes "
        "an artifact.",
        (
            Action("i", "import", "Import", "import a file or folder from the server's disk"),
            Action("slash", "filter", "Filter", "filter the catalogue by name, type or licence", key_display="/"),
            Action("z", "pane('catalogue')", "Zoo", "the catalogue"),
            Action("a", "pane('artifacts')", "Artifacts", "imported weights"),
            Action("j", "pane('jobs')", "Jobs", "imports that run or ran"),
            Action("t", "template", "Template", "chat template of the selected artifact", shown=False),
            Action("x,delete", "remove", "Delete", "delete an artifact, or cancel a job", key_display="x"),
        ),
    ),
    "models": Area(
        "Models",
        "A model is a template with its parameters filled in; a deployment is the wish to serve it, with an ID of its "
        "own. A swap loads and probes the other model first: until then, and if that fails, the present one serves.",
        (
            Action("n", "new_model", "New model", "make a model from a template"),
            Action("d", "deploy", "Deploy", "make a deployment of the selected model"),
            Action("s", "swap", "Swap", "let the selected deployment serve another model"),
            Action("enter", "details", "Details", "settings, plan, schemas and calls"),
            Action("p", "playground", "Try it", "open the selected deployment in the playground"),
            Action("x,delete", "remove", "Delete", "delete the selected model or deployment", key_display="x"),
        ),
    ),
    "playground": Area(
        "Playground",
        "Talk to a deployment of any model type. Every call is a real one: it is logged and counted. For embedding and "
        "reranking write one text per line.",
        (
            Action("enter", "send", "Send", "send (chat and completion)", shown=False),
            Action("ctrl+r", "send", "Run", "send, for every model type", key_display="^r"),
            Action("escape", "stop", "Stop", "stop the answer; the server stops computing too", key_display="esc"),
            Action("ctrl+j", "newline", "New line", "new line in the prompt", shown=False),
            Action("ctrl+o", "choose", "Deployment", "choose the deployment", key_display="^o"),
            Action("ctrl+t", "settings", "Settings", "temperature, longest answer, system message", key_display="^t"),
            Action("ctrl+l", "clear", "Clear", "forget the conversation", key_display="^l"),
        ),
        tab="Play",
    ),
    "keys": Area(
        "Keys",
        "Admin keys may change templates, weights and keys; member keys use models. A secret is shown once, when the "
        "key is made; the server stores only its digest.",
        (
            Action("n", "new_key", "New key", "make a key"),
            Action("x,delete", "revoke", "Revoke", "make the selected key invalid for good", key_display="x"),
            Action("r", "reload", "Reload", "ask the server again"),
        ),
    ),
    "upstreams": Area(
        "Upstreams",
        "OpenAI-compatible endpoints where models of external vendors run. The host of one must stand in "
        "upstream_hosts of the server's configuration. Its key is stored encrypted and never shown again.",
        (
            Action("n", "new_upstream", "New upstream", "add an endpoint"),
            Action("k", "rekey", "Change key", "give the selected one another key, or none"),
            Action("x,delete", "remove", "Remove", "remove one that no deployment runs at", key_display="x"),
            Action("r", "reload", "Reload", "ask the server again"),
        ),
        tab="Upstr",
    ),
    "batches": Area(
        "Batches",
        "Files of requests that run in the background, behind all other traffic, also over a restart. Make one with "
        "'appliance batches create FILE', fetch its answers with 'appliance batches download ID'.",
        (
            Action("x,delete", "cancel", "Cancel", "stop the selected batch; its answers so far stay", key_display="x"),
            Action("c", "copy", "Copy ID", "hand the batch's ID to the terminal's clipboard"),
            Action("r", "reload", "Reload", "ask the server again"),
        ),
        tab="Batch",
    ),
    "training": Area(
        "Training",
        "A dataset is a file of examples, one a line; a fine-tuning job trains a model on it, behind all other "
        "traffic, also over a restart. What comes out is a model. Promoting moves what callers call to it, if its "
        "evaluation is not worse than its base's; rolling back moves it back.",
        (
            Action("enter", "details", "Details", "loss, evaluation and events of a job; examples of a dataset"),
            Action("n", "new_job", "New job", "train a model on a dataset"),
            Action("p", "promote", "Promote", "move what callers call to the selected job's model"),
            Action("b", "roll_back", "Roll back", "move what was promoted back to where it was", shown=False),
            Action("j", "pane('jobs')", "Jobs", "fine-tuning jobs"),
            Action("d", "pane('datasets')", "Data", "examples to train on"),
            Action("u", "upload", "Upload", "upload a JSON Lines file from this machine as a dataset"),
            Action("x,delete", "remove", "Remove", "cancel or remove a job, remove a dataset", key_display="x"),
            Action("r", "reload", "Reload", "ask the server again", shown=False),
        ),
        tab="Train",
    ),
}


def bindings(actions: tuple[Action, ...]) -> list[BindingType]:
    """The actions as Textual wants them: one binding per key, the first of them in the footer.

    Function keys work while text is typed, whatever the text widget itself would do with them.
    """
    return [
        Binding(
            key,
            action.action,
            action.label,
            show=action.shown and number == 0,
            key_display=action.key_display,
            tooltip=action.explanation,
            priority=key[0] == "f" and key[1:].isdigit(),
        )
        for action in actions
        for number, key in enumerate(action.key.split(","))
    ]
