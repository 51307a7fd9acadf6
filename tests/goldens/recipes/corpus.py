"""The text of the fixtures: four small datasets, written by fixed rules so that every run makes the same files."""

import json

from .paths import DATA

PEOPLE = ["Ada", "Bruno", "Chloé", "Dmitri", "Esther", "Farid", "Grace"]
CITIES = ["Lagos", "Zürich", "Kyoto", "Quito", "Oslo", "Perth", "Lima", "Accra"]
ITEMS = ["a red kite", "two maps", "some old radio parts", "12 apples", "one blue lamp"]
REASONS = ["", "", " because the ferry was late", " and nobody noticed until the rain had stopped in the evening", " again"]


def prompt_completion_rows() -> list[dict]:
    """21 rows (odd on purpose: uneven batches and windows), completions from 3 to about 40 tokens."""
    rows = []
    for i in range(21):
        who, city, item = PEOPLE[i % 7], CITIES[(3 * i) % 8], ITEMS[(2 * i) % 5]
        sentence = f"{who} took {item} to {city}{REASONS[i % 5]}."
        if i % 4 == 0:
            rows.append({"prompt": f"Where? {sentence}\n", "completion": city})
        elif i % 4 == 1:
            rows.append({"prompt": f"{sentence}\nJSON:", "completion": f' {{"who": "{who}", "what": "{item}", "where": "{city}"}}'})
        elif i % 4 == 2:
            rows.append({"prompt": f"Repeat {1 + i % 3} times: {city}\n", "completion": " ".join([city] * (1 + i % 3))})
        else:
            rows.append({"prompt": f"Read this and name the person. {sentence} Who was it?\nAnswer:", "completion": f" It was {who}."})
    return rows


def messages_rows() -> list[dict]:
    """24 conversations of one to three exchanges, every third with a system message."""
    rows = []
    for i in range(24):
        who, city = PEOPLE[(2 * i) % 7], CITIES[(5 * i) % 8]
        turns = []
        if i % 3 == 0:
            turns.append({"role": "system", "content": "Answer in few words."})
        turns.append({"role": "user", "content": f"Where does {who} live?"})
        turns.append({"role": "assistant", "content": f"{who} lives in {city}."})
        if i % 4 in (1, 2):
            turns.append({"role": "user", "content": f"And what is {i} + {i + 3}?"})
            turns.append({"role": "assistant", "content": str(2 * i + 3)})
        if i % 8 == 2:
            turns.append({"role": "user", "content": "Thanks!\nOne more: spell the city."})
            turns.append({"role": "assistant", "content": "-".join(city.upper())})
        rows.append({"messages": turns})
    return rows


def text_rows() -> list[dict]:
    """18 plain texts of 1 to 4 sentences, with accents, digits and an emoji."""
    endings = ["The end.", "Nobody asked why 🙂.", "It cost 3.50 in all.", "“Again?” she said.", "Then it rained for 14 days."]
    rows = []
    for i in range(18):
        parts = [f"{PEOPLE[(i + k) % 7]} went to {CITIES[(i * 3 + k) % 8]} with {ITEMS[(i + k) % 5]}." for k in range(i % 4)]
        rows.append({"text": " ".join([*parts, endings[i % 5]])})
    return rows


def alpaca_rows() -> list[dict]:
    """12 rows; every third has an empty input, as in Alpaca's own file."""
    rows = []
    for i in range(12):
        who, city, item = PEOPLE[i % 7], CITIES[i % 8], ITEMS[i % 5]
        if i % 3 == 0:
            rows.append({"instruction": f"Name a city that starts with {city[0]}.", "input": "", "output": city})
        elif i % 3 == 1:
            rows.append({"instruction": "Who is it about?", "input": f"{who} took {item} to {city}.", "output": f"It is about {who}."})
        else:
            rows.append({"instruction": "Count the words.", "input": item, "output": str(len(item.split()))})
    return rows


def datasets() -> dict[str, list[dict]]:
    return {
        "prompt-completion": prompt_completion_rows(),
        "messages": messages_rows(),
        "text": text_rows(),
        "alpaca": alpaca_rows(),
    }


def write_data() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    for name, rows in datasets().items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (DATA / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tokenizer_text() -> list[str]:
    """What the byte-level BPE is trained on: every string of every dataset."""

    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from strings(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from strings(inner)

    return [text for rows in datasets().values() for text in strings(rows)]
