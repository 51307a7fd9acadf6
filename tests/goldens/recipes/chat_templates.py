"""Chat templates as their models ship them, and what TRL's training variants of them render and mark as the assistant's."""

from pathlib import Path

import trl
from transformers.utils.chat_template_utils import render_jinja_template

from .paths import GOLDENS, write_json

NAMES = [
    "qwen2_5", "qwen3", "qwen3_instruct_2507", "llama3", "gemma", "gemma3", "phi3", "phi3_5", "cohere2", "lfm2",
]  # fmt: skip


def turn(role: str, content: str | None, **more) -> dict:
    return {"role": role, "content": content, **more}


CALL = {"type": "function", "function": {"name": "find", "arguments": {"who": "Ada"}}}
TALKS = [
    [turn("user", "Where does Ada live?"), turn("assistant", "In Lagos.")],
    [turn("system", "Be brief."), turn("user", "Hi"), turn("assistant", "Hello!"), turn("user", "And?"), turn("assistant", "Bye.\nBye.")],
    [turn("user", "q"), turn("assistant", "  padded  "), turn("user", "more"), turn("assistant", "x")],
]  # fmt: skip
THOUGHT = [turn("user", "q"), turn("assistant", "<think>\nhm\n</think>\n\na"), turn("user", "r"), turn("assistant", "b")]
TOOLS = [turn("user", "Find Ada."), turn("assistant", None, tool_calls=[CALL]), turn("tool", "Lagos"), turn("assistant", "There.")]
MORE = {"qwen2_5": [TOOLS], "qwen3": [THOUGHT, TOOLS]}
SYSTEM = {"gemma"}  # refuse a system turn


def case(template: str, messages: list[dict]) -> dict:
    texts, marked = render_jinja_template(
        [messages], chat_template=template, return_assistant_tokens_mask=True, bos_token="<bos>", eos_token="<eos>"
    )
    return {"messages": messages, "text": texts[0], "spans": [list(span) for span in marked[0]]}


def make() -> None:
    folder = Path(trl.__file__).parent / "chat_templates"
    goldens = {}
    for name in NAMES:
        training = (folder / f"{name}_training.jinja").read_text()
        talks = [talk for talk in TALKS + MORE.get(name, []) if name not in SYSTEM or talk[0]["role"] != "system"]
        shipped = (folder / f"{name}.jinja").read_text()
        goldens[name] = {"template": shipped, "cases": [case(training, talk) for talk in talks]}
    write_json(GOLDENS / "chat-templates.json", goldens)
