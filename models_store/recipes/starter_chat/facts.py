"""What the small model knows: the appliance's words, how to do things with it, manners, and where its knowledge ends.

A `Fact` has one answer, the phrases a right answer must contain, and the subjects people ask about. Questions are
made from patterns; some patterns, and some subjects' wordings, are kept out of training so that evaluation can
ask what was never asked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from . import words
from .words import Split

Json = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """One thing the model can say."""

    answer: str
    required: tuple[str, ...]
    """Phrases that a right answer contains, letter case ignored."""
    patterns: str
    """Which set of question patterns fits: `what`, `how` or `plain`."""
    subjects: tuple[str, ...]
    """Wordings that fill a pattern; for `plain` they are whole questions."""
    held_out: tuple[str, ...] = ()
    """Wordings kept for evaluation."""


PATTERNS: dict[str, tuple[str, ...]] = {
    "what": (
        "What is {}?",
        "What's {}?",
        "what is {}",
        "Explain {}.",
        "Can you explain {}?",
        "Tell me about {}.",
        "What does {} mean?",
        "Please explain what {} is.",
        "I do not know what {} is.",
        "Define {}.",
        "Could you tell me what {} is?",
        "{}?",
        "What do you call {}?",
        "Describe {}.",
        "What exactly is {}?",
        "What is meant by {}?",
        "I have a question: what is {}?",
        "What is {} for?",
        "what does {} do?",
        "Give me a definition of {}.",
        "How would you describe {}?",
        "In this appliance, what is {}?",
        "{} - what is that?",
        "What is {} in simple words?",
    ),
    "how": (
        "How do I {}?",
        "How can I {}?",
        "how to {}",
        "How to {}?",
        "I want to {}.",
        "I want to {}. How?",
        "What is the command to {}?",
        "Please tell me how to {}.",
        "Can you show me how to {}?",
        "What do I do to {}?",
        "I need to {}.",
        "Which command do I use to {}?",
        "how do you {}",
        "Is there a way to {}?",
        "Explain how to {}.",
        "Can I {}?",
        "How does one {}?",
        "Tell me how to {}.",
        "What should I type to {}?",
        "I would like to {}.",
        "We need to {}, how does that work?",
        "how can we {}",
        "Could you tell me how I can {}?",
    ),
    "plain": ("{}",),
}

HELD_OUT_PATTERNS: dict[str, tuple[str, ...]] = {
    "what": (
        "Would you please explain {} to me?",
        "I am new here, so what is {}?",
        "Help me understand {}.",
        "Quick question about {}: what is it?",
        "So what is {} actually?",
        "I keep reading about {}. What is it?",
    ),
    "how": (
        "What are the steps to {}?",
        "Help me {}.",
        "My boss asked me to {}, what now?",
        "Show me the way to {}.",
        "I am trying to {}, any hints?",
        "What is the right way to {}?",
    ),
    "plain": ("Hi, {}", "{} Thanks!", "Question: {}", "Please: {}"),
}

REFUSAL = (
    "I am a small starter model and do not know that. Import a larger model with: appliance models import FILE --name N"
)
ABLE = "I can answer questions about this appliance, call tools, find answers in a passage and do small sums. For more, import a larger model."
IDENTITY = "I am starter-chat, the small model that comes with this appliance."

CONCEPTS = (
    Fact(
        "A model template is a static recipe: which backend, which resources and which parameters a model needs. Only admins change one.",
        ("recipe",),
        "what",
        ("a model template", "a template", "the model template", "model templates", "templates", "template"),
    ),
    Fact(
        "A model is an instance of a template: weights plus metadata and creation parameters.",
        ("instance of a template",),
        "what",
        ("a model", "a model instance", "the model instance", "model instances", "a model here", "an instance"),
    ),
    Fact(
        "A deployment is the wish to serve a model. It has its own ID and endpoint, logs its calls and carries its usage.",
        ("wish to serve a model",),
        "what",
        ("a model deployment", "a deployment", "the deployment", "deployments", "model deployments", "deployment"),
    ),
    Fact(
        "A model group is a namespace for iterations of a model.",
        ("namespace",),
        "what",
        ("a model group", "a group", "the model group", "model groups", "groups", "group"),
    ),
    Fact(
        "A key is a secret that lets a client call the appliance. It has the role admin or member and is shown only once.",
        ("secret", "shown only once"),
        "what",
        ("a key", "an API key", "the API key", "keys", "API keys", "key"),
    ),
    Fact(
        "An account owns models, deployments and keys, so that teams stay apart.",
        ("owns models",),
        "what",
        ("an account", "the account", "accounts", "account"),
    ),
    Fact(
        "The model zoo is the list of built-in models that can be called by name.",
        ("list of built-in models",),
        "what",
        ("the model zoo", "the zoo", "a model zoo", "model zoo", "zoo"),
    ),
    Fact(
        "Usage is the count of calls and tokens of a deployment.",
        ("count of calls and tokens",),
        "what",
        ("usage", "the usage", "deployment usage", "usage of a deployment"),
    ),
    Fact(
        "A built-in model is shipped with the appliance and called by its unique name.",
        ("shipped with the appliance",),
        "what",
        ("a built-in model", "built-in models", "the built-in model", "a built in model", "builtin models"),
    ),
    Fact(
        "An artifact is one imported weights file or folder, named and stored by its digest.",
        ("imported weights",),
        "what",
        ("an artifact", "artifacts", "the artifact", "artifact"),
    ),
    Fact(
        "Fine-tuning trains a small adapter on your own examples, so that a model fits your task.",
        ("adapter",),
        "what",
        ("fine-tuning", "fine tuning", "a fine-tune", "finetuning", "model fine-tuning"),
    ),
    Fact(
        "A completion model continues the text of a prompt.",
        ("continues the text",),
        "what",
        ("a completion model", "completion models", "the completion model", "COMPLETION", "the completion type"),
    ),
    Fact(
        "A chat completion model answers the last message of a conversation.",
        ("conversation",),
        "what",
        ("a chat model", "chat models", "a chat completion model", "CHAT_COMPLETION", "chat completion"),
    ),
    Fact(
        "An embedding model turns text into a vector, so that similar texts can be found.",
        ("vector",),
        "what",
        ("an embedding model", "embedding models", "EMBEDDING", "the embedding type", "embeddings", "an embedding"),
    ),
    Fact(
        "A reranking model scores documents by how well they fit a query.",
        ("scores documents",),
        "what",
        ("a reranking model", "reranking models", "RERANKING", "reranking", "a reranker", "the reranking type"),
    ),
    Fact(
        "An agent model either answers or asks for one of the tools it was given.",
        ("tools",),
        "what",
        ("an agent model", "agent models", "AGENT", "an agent", "agents", "the agent type"),
    ),
    Fact(
        "A bundle is one file with everything needed to install the appliance without a network.",
        ("without a network",),
        "what",
        ("a bundle", "the bundle", "an offline bundle", "bundles"),
    ),
    Fact(
        "The appliance serves models on one machine: templates, models, deployments, keys and usage, with no network needed.",
        ("serves models on one machine",),
        "what",
        ("the appliance", "this appliance", "the model appliance", "an appliance", "this product", "this server"),
    ),
    Fact(
        "The model types are COMPLETION, CHAT_COMPLETION, EMBEDDING, RERANKING and AGENT.",
        ("COMPLETION", "EMBEDDING", "RERANKING", "AGENT"),
        "plain",
        (
            "What are the model types?",
            "Which model types are there?",
            "What types of models exist?",
            "List the model types.",
            "what model types do you support",
            "How many model types are there?",
            "Name the model types.",
            "Which types of model can I create?",
        ),
        ("Tell me all the model types.", "What kinds of model types does the appliance have?"),
    ),
)

HOW_TO = (
    Fact(
        "Run: appliance keys create --role member --name N",
        ("appliance keys create --role member --name",),
        "how",
        (
            "create a key",
            "make a key",
            "create an API key",
            "make a new key",
            "get an API key",
            "add a key",
            "create a member key",
            "issue a key",
            "get a new key",
        ),
        ("generate an API key", "set up a new key"),
    ),
    Fact(
        "Run: appliance keys create --role admin --name N",
        ("appliance keys create --role admin --name",),
        "how",
        (
            "create an admin key",
            "make an admin key",
            "get an admin key",
            "add a key for an admin",
            "make a new admin key",
        ),
        ("issue an admin key",),
    ),
    Fact(
        "Run: appliance keys list",
        ("appliance keys list",),
        "how",
        (
            "list the keys",
            "list keys",
            "see all keys",
            "show the keys",
            "see which keys exist",
            "list my keys",
            "show all API keys",
        ),
        ("view the keys", "list all keys"),
    ),
    Fact(
        "Run: appliance keys revoke",
        ("appliance keys revoke",),
        "how",
        (
            "revoke a key",
            "delete a key",
            "remove a key",
            "cancel a key",
            "disable a key",
            "revoke an API key",
            "delete an API key",
        ),
        ("remove an API key", "revoke an old key"),
    ),
    Fact(
        "Run: appliance models import FILE --name N",
        ("appliance models import FILE --name",),
        "how",
        (
            "import a model",
            "import weights",
            "add a model",
            "import a larger model",
            "import a GGUF file",
            "load a new model",
            "import a weights file",
            "add a larger model",
            "import an ONNX file",
            "bring in my own model",
        ),
        ("import my own weights", "add a new model"),
    ),
    Fact(
        "Run: appliance models list",
        ("appliance models list",),
        "how",
        (
            "list the models",
            "list models",
            "see all models",
            "show the models",
            "see which models I have",
            "list my models",
            "show imported models",
        ),
        ("view all models", "list the imported models"),
    ),
    Fact(
        "Run: appliance zoo list",
        ("appliance zoo list",),
        "how",
        (
            "list the zoo",
            "see the model zoo",
            "list the model zoo",
            "show the zoo",
            "see the built-in models",
            "list the built-in models",
            "show the built-in models",
        ),
        ("browse the zoo", "view the model zoo"),
    ),
    Fact(
        "Run: appliance serve",
        ("appliance serve",),
        "how",
        (
            "start the server",
            "serve",
            "run the server",
            "start the appliance",
            "serve models",
            "launch the server",
            "run the appliance",
            "start serving",
        ),
        ("launch the appliance", "start up the server"),
    ),
    Fact(
        "Run: ./install.sh --serve",
        ("./install.sh --serve",),
        "how",
        (
            "install and serve",
            "install it",
            "install the appliance",
            "set up the appliance",
            "install this",
            "install and start the server",
            "do the first installation",
        ),
        ("install the server", "set up and install the appliance"),
    ),
    Fact(
        "Run: appliance tui",
        ("appliance tui",),
        "how",
        (
            "open the console",
            "start the console",
            "use the console",
            "open the TUI",
            "start the terminal interface",
            "see the dashboard",
            "open the dashboard",
            "launch the console",
        ),
        ("run the console", "start the TUI"),
    ),
    Fact(
        "Send POST /v3/models/{model}/deployments/{deployment}/execute with your key.",
        ("/v3/models/{model}/deployments/{deployment}/execute",),
        "how",
        (
            "execute a deployment",
            "call a deployment",
            "run a deployment",
            "use a deployment",
            "call my deployment",
            "send a request to a deployment",
            "execute my deployment",
            "query a deployment",
        ),
        ("call the deployment", "execute the model deployment"),
    ),
    Fact(
        "Send POST /egp/v1/completions with model and prompt.",
        ("/egp/v1/completions",),
        "how",
        (
            "call a built-in model",
            "call a model by name",
            "use a built-in model",
            "call a built-in model by name",
            "get a completion",
            "send a prompt",
            "complete a prompt",
            "call a model from the zoo",
        ),
        ("use a model by name", "get a completion from a built-in model"),
    ),
    Fact(
        "Point your OpenAI client at /v1 on this server and use your key.",
        ("/v1",),
        "how",
        (
            "use the OpenAI client",
            "use the OpenAI API",
            "use the OpenAI dialect",
            "connect an OpenAI client",
            "call it with the OpenAI library",
            "use OpenAI tools with this",
        ),
        ("use the OpenAI library", "connect with the OpenAI API"),
    ),
    Fact(
        "Ask /livez, /readyz and /metrics.",
        ("/readyz", "/metrics"),
        "how",
        (
            "check the health",
            "check if the server is ready",
            "see the metrics",
            "monitor the server",
            "check the health of the server",
            "see if it is healthy",
            "get the metrics",
            "check that it is alive",
        ),
        ("check the server health", "monitor the appliance"),
    ),
    Fact(
        "Run ./install.sh --bundle OUT.tar on a connected machine, then ./install.sh --offline OUT.tar on the other.",
        ("./install.sh --bundle OUT.tar", "./install.sh --offline OUT.tar"),
        "how",
        (
            "make a bundle",
            "install without a network",
            "install offline",
            "install without internet",
            "create an offline bundle",
            "install it on a machine with no network",
            "build a bundle",
            "install from a bundle",
        ),
        ("install with no internet", "make an offline bundle"),
    ),
    Fact(
        "Create a deployment of the model: POST /v3/models/{model}/deployments, or use the console.",
        ("/v3/models/{model}/deployments",),
        "how",
        (
            "create a deployment",
            "deploy a model",
            "make a deployment",
            "deploy my model",
            "add a deployment",
            "serve my own model",
            "put a model to work",
        ),
        ("set up a deployment", "deploy the model"),
    ),
    Fact(
        "Create a model from a template: POST /v3/models, or use the console.",
        ("POST /v3/models",),
        "how",
        (
            "create a model",
            "create a model from a template",
            "make a model",
            "make a model instance",
            "create a model instance",
        ),
        ("create a new model instance", "make a model from a template"),
    ),
    Fact(
        "Create a model group: POST /v3/model-groups, or use the console.",
        ("/v3/model-groups",),
        "how",
        ("create a model group", "make a model group", "create a group", "make a group", "add a model group"),
        ("set up a model group", "add a group"),
    ),
    Fact(
        "Send your key in the header x-api-key, or as Authorization: Bearer.",
        ("x-api-key",),
        "how",
        (
            "send my key",
            "use my key",
            "authenticate",
            "log in",
            "pass the API key",
            "use a key in a request",
            "send the API key",
        ),
        ("pass my key", "authenticate a request"),
    ),
    Fact(
        "Start a fine-tuning job on your examples; it makes an adapter for the model.",
        ("fine-tuning job",),
        "how",
        (
            "fine-tune a model",
            "train a model",
            "fine tune a model",
            "train on my data",
            "adapt a model",
            "fine-tune on my own data",
            "teach the model my task",
        ),
        ("train a model on my examples", "fine-tune my model"),
    ),
    Fact(
        "Call /v1/embeddings with starter-embed.",
        ("/v1/embeddings", "starter-embed"),
        "how",
        (
            "get embeddings",
            "get an embedding",
            "embed text",
            "make a vector from text",
            "embed a text",
            "turn text into a vector",
        ),
        ("compute embeddings", "embed a document"),
    ),
    Fact(
        "Call /v1/rerank with starter-rerank.",
        ("/v1/rerank", "starter-rerank"),
        "how",
        (
            "rerank documents",
            "rerank",
            "sort documents by relevance",
            "score documents",
            "rank documents",
            "rerank results",
        ),
        ("rerank search results", "rank my documents"),
    ),
    Fact(
        "Read the usage of the deployment in the console, or in the usage routes of the API.",
        ("usage of the deployment",),
        "how",
        (
            "see the usage",
            "check the usage",
            "see how many tokens were used",
            "count the tokens used",
            "see my usage",
            "check usage of a deployment",
        ),
        ("view the usage", "see token usage"),
    ),
    Fact(
        "Only admins create or change templates.",
        ("only admins",),
        "plain",
        (
            "Who can change a template?",
            "Can a member change a template?",
            "Who may change templates?",
            "Who is allowed to create templates?",
            "Can members create templates?",
            "Can I change a template?",
            "who can edit templates",
            "Who creates templates?",
        ),
        ("Who is allowed to change a template?", "May members edit templates?"),
    ),
    Fact(
        "No. A key is shown only once. Create a new one and revoke the old one.",
        ("shown only once",),
        "plain",
        (
            "I lost my key.",
            "Can I see my key again?",
            "I forgot my key.",
            "Can you show me my key again?",
            "Where can I find my lost key?",
            "How do I recover a key?",
            "I lost my API key, what now?",
            "Is a key shown again?",
        ),
        ("I have lost my key!", "Can I recover my key?"),
    ),
    Fact(
        "The server listens on 127.0.0.1:8080.",
        ("127.0.0.1:8080",),
        "plain",
        (
            "Where does the server listen?",
            "Which port do you use?",
            "What is the port?",
            "On which port does it run?",
            "What is the address of the server?",
            "Where is the server?",
            "which address does the appliance use",
            "What is the default port?",
        ),
        ("Which port does the server listen on?", "What address does the server use?"),
    ),
    Fact(
        "GGUF files run on llama.cpp, ONNX files on ONNX Runtime.",
        ("GGUF", "ONNX"),
        "plain",
        (
            "Which file formats do you support?",
            "What formats can I import?",
            "Which weights can I import?",
            "What file types are supported?",
            "Do you support GGUF?",
            "Do you support ONNX?",
            "Which backends are there?",
            "What engines do you have?",
        ),
        ("What file formats are supported?", "Which formats can be imported?"),
    ),
    Fact(
        "The roles are admin and member.",
        ("admin and member",),
        "plain",
        (
            "Which roles are there?",
            "What roles exist?",
            "What are the roles?",
            "What roles can a key have?",
            "List the roles.",
            "which roles do keys have",
        ),
        ("What roles are there?", "Name the roles of a key."),
    ),
    Fact(
        "No. The appliance works without a network.",
        ("without a network",),
        "plain",
        (
            "Do I need the internet?",
            "Does it need a network?",
            "Can it work offline?",
            "Does the appliance work offline?",
            "Do you need internet access?",
            "Is a network needed?",
            "Does this run without internet?",
        ),
        ("Does it work without internet?", "Is the internet needed?"),
    ),
)

MANNERS = (
    Fact(
        ABLE,
        ("questions about this appliance", "tools"),
        "plain",
        (
            "Hello, what can you do?",
            "What can you do?",
            "what can you do",
            "Hi, what can you do?",
            "What are you able to do?",
            "How can you help me?",
            "Can you help me?",
            "What do you know?",
            "What are you good at?",
            "Hello! What can you do for me?",
            "What can you help with?",
            "Help",
            "help me",
            "What can I ask you?",
            "Hey, what can you do?",
            "Who are you and what can you do?",
        ),
        ("Good day, what can you do?", "Tell me what you can do.", "What can you do for me today?"),
    ),
    Fact(
        IDENTITY,
        ("starter-chat",),
        "plain",
        (
            "Who are you?",
            "What is your name?",
            "what's your name",
            "What are you?",
            "Are you a human?",
            "Are you a robot?",
            "Which model are you?",
            "What model is this?",
            "Tell me who you are.",
            "Introduce yourself.",
            "Are you ChatGPT?",
            "What is starter-chat?",
            "Do you have a name?",
            "who is this",
            "Are you an AI?",
        ),
        ("Please tell me your name.", "So who are you?", "Which model am I talking to?"),
    ),
    Fact(
        "Hello! How can I help you with the appliance?",
        ("hello",),
        "plain",
        (
            "Hello",
            "Hi",
            "hi",
            "Hello!",
            "Hey",
            "Hi there",
            "Good morning",
            "Good evening",
            "hello there",
            "Hey there!",
            "Good afternoon",
            "Greetings",
            "How are you?",
            "Hi, how are you?",
            "Hello, how are you?",
        ),
        ("Hey hello!", "Hi there, how are you?"),
    ),
    Fact(
        "You are welcome!",
        ("welcome",),
        "plain",
        (
            "Thanks",
            "Thank you",
            "Thanks!",
            "thank you very much",
            "Thanks a lot",
            "Great, thanks",
            "Thank you so much!",
            "ok thanks",
            "Many thanks",
            "Perfect, thank you",
        ),
        ("Thanks for your help", "Great, thank you!"),
    ),
    Fact(
        "Goodbye!",
        ("goodbye",),
        "plain",
        ("Bye", "Goodbye", "bye bye", "See you", "See you later", "Good night", "Goodbye!", "ok bye"),
        ("Bye, see you!",),
    ),
)

_OPEN = (
    "Who won the {n} in {y}?",
    "What is the capital of {c}?",
    "Write a poem about {n}s.",
    "Tell me a joke about {n}s.",
    "Who is {p}?",
    "What is the population of {c}?",
    "Write a story about a {a} {n}.",
    "Who wrote the {n}?",
    "Why is the {n} {o}?",
    "Translate {n} to French.",
    "What is the history of {c}?",
    "Write Python code for a {n}.",
    "What is the best {n} in {t}?",
    "What do you think about {p}?",
    "Who is the president of {c}?",
    "What happened in {y}?",
    "Give me a recipe for {n} soup.",
    "How far is {t} from {u}?",
    "How old is {p}?",
    "What is the meaning of life?",
    "Summarize the news.",
    "What will the stock price of {w} be?",
    "Explain quantum physics.",
    "Recommend a {n}.",
    "Is {c} bigger than {d}?",
    "Who invented the {n}?",
    "How do I cook a {n}?",
    "What is the weather in {t}?",
    "write an essay about {c}",
    "When was {p} born?",
)
_OPEN_HELD_OUT = (
    "Who discovered the {n}?",
    "Write a song about {c}.",
    "What language do they speak in {c}?",
    "How tall is {p}?",
    "Which {n} is the best?",
    "Tell me a story about {t}.",
)


def open_question(rng: random.Random, split: Split) -> str:
    """A question about the wide world, which the model must decline."""
    pattern = rng.choice(_OPEN if split == "train" else _OPEN_HELD_OUT)
    cities, countries = rng.sample(words.CITIES, 2), rng.sample(words.COUNTRIES, 2)
    person = f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.LAST_NAMES)}"
    filled = pattern.format(
        n=rng.choice(words.NOUNS), y=rng.randint(1800, 2030), p=person, a=rng.choice(words.ADJECTIVES), o=rng.choice(words.COLOURS),
        c=countries[0], d=countries[1], t=cities[0], u=cities[1], w=words.title(rng, split),
    )  # fmt: skip
    return filled.lower() if rng.random() < 0.1 else filled


def _question(rng: random.Random, fact: Fact, split: Split) -> str:
    """One way to ask for a fact; a held-out one uses a pattern or a wording that training never sees."""
    if split == "train":
        pattern, subject = rng.choice(PATTERNS[fact.patterns]), rng.choice(fact.subjects)
    elif fact.held_out and rng.random() < 0.6:
        pattern, subject = rng.choice(PATTERNS[fact.patterns]), rng.choice(fact.held_out)
    else:
        pattern, subject = rng.choice(HELD_OUT_PATTERNS[fact.patterns]), rng.choice(fact.subjects)
    return pattern.format(subject)


_PREFIXES = (
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Sorry, ",
    "One more thing: ",
    "Now, ",
    "Ok. ",
    "And ",
    "Excuse me, ",
    "Well, ",
)
_SUFFIXES = (
    " Thank you.",
    " please",
    " I am not sure.",
    " Thanks",
    " Please help.",
    " Just curious.",
    " Can you help?",
)


def _blurred(rng: random.Random, question: str) -> str:
    """The same question as people really type it."""
    if rng.random() < 0.15:
        question = rng.choice(_PREFIXES) + question[0].lower() + question[1:]
    if rng.random() < 0.1:
        question += rng.choice(_SUFFIXES)
    if rng.random() < 0.15:
        question = question.lower()
    return question.rstrip("?.!") if rng.random() < 0.15 else question


FACTS = CONCEPTS + HOW_TO + MANNERS


def exchange(rng: random.Random, split: Split) -> tuple[str, Fact]:
    """A question and the fact that answers it."""
    draw = rng.random()
    if draw < 0.18:
        return open_question(rng, split), Fact(REFUSAL, ("starter model", "import"), "plain", ())
    fact = rng.choice(MANNERS) if draw < 0.36 else rng.choice(CONCEPTS + HOW_TO)
    question = _question(rng, fact, split)
    return (_blurred(rng, question) if split == "train" else question), fact


def completion(rng: random.Random, split: Split) -> Json:
    """The same as raw text, for the endpoints that send a prompt without a chat template."""
    question, fact = exchange(rng, split)
    layout, gap = rng.choice(
        (
            ("{}", "\n"),
            ("{}", " "),
            ("Question: {}\nAnswer:", " "),
            ("Q: {}\nA:", " "),
            ("{}\n", ""),
            ("User: {}\nAssistant:", " "),
        )
    )
    return {"prompt": layout.format(question), "completion": gap + fact.answer}


def conversation(rng: random.Random, split: Split) -> Json:
    """One to three questions and answers."""
    messages: list[Json] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        question, fact = exchange(rng, split)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": fact.answer}]
    return {"messages": messages}
