"""What TRL's SFTTrainer feeds the model for each dataset shape: token ids and labels per row, and collated batches."""

from .paths import GOLDENS, write_json
from .sft import build, load_model, read_rows

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "Who went?"}
TELL = {"role": "assistant", "content": "Ada went."}

# Rows that are easier to read here than in a file of their own; each golden carries the rows it was made from.
INLINE = {
    "conversational-prompt-completion": [
        {"prompt": [ASK], "completion": [TELL]},
        {"prompt": [SYSTEM, ASK], "completion": [TELL]},
        {"prompt": [ASK, TELL, ASK], "completion": [{"role": "assistant", "content": "Still Ada."}]},
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Who went?"}, {"from": "gpt", "value": "Ada went."}]},
        {"conversations": [{"from": "user", "value": "And?"}, {"from": "assistant", "value": "Bruno."}]},
    ],
    "eos-present": [
        {"prompt": "Say it: ", "completion": "Oslo<|im_end|>"},
        {"prompt": "Say it: ", "completion": "Oslo"},
    ],
    # The prompt's last token merges with the completion's first: TRL masks by count and only warns.
    "merge-at-border": [
        {"prompt": "Ada went to La", "completion": "gos."},
        {"prompt": "It is 1", "completion": "4 apples"},
        {"prompt": "Ada took", "completion": " two maps"},
        {"prompt": "Ada took ", "completion": "two maps"},
    ],
    "tokenized": [{"input_ids": [5, 6, 7, 8]}, {"input_ids": list(range(20, 40))}],
    "tokenized-labels": [
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
        {"input_ids": [9, 10, 11], "labels": [-100, -100, -100]},
    ],
    "tokenized-masks": [
        {"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 1, 1], "assistant_masks": [0, 1, 1, 0]},
        {"input_ids": [9, 10, 11], "completion_mask": [0, 0, 1], "assistant_masks": [0, 1, 1]},
    ],
    "text-eos-present": [{"text": "Lagos.<|im_end|>"}, {"text": "Lagos."}, {"text": "x"}],
}

# golden name → (rows, SFTConfig arguments, tokenizer)
CASES = {
    "prompt-completion": ("prompt-completion", {}, "tiny-llama"),
    "prompt-completion.whole": ("prompt-completion", {"completion_only_loss": False}, "tiny-llama"),
    "prompt-completion.max-length-40": ("prompt-completion", {"max_length": 40}, "tiny-llama"),
    "prompt-completion.keep-end-20": ("prompt-completion", {"max_length": 20, "truncation_mode": "keep_end"}, "tiny-llama"),
    "prompt-completion.bos": ("prompt-completion", {}, "tokenizer-bos"),
    "messages": ("messages", {}, "tiny-llama"),
    "messages.assistant-only": ("messages", {"assistant_only_loss": True}, "tiny-llama"),
    "messages.assistant-only.max-length-32": ("messages", {"assistant_only_loss": True, "max_length": 32}, "tiny-llama"),
    "messages.bos": ("messages", {}, "tokenizer-bos"),
    "text": ("text", {}, "tiny-llama"),
    "text.max-length-24": ("text", {"max_length": 24}, "tiny-llama"),
    "text.bos": ("text", {}, "tokenizer-bos"),
    "text-eos-present": ("text-eos-present", {}, "tiny-llama"),
    "eos-present": ("eos-present", {}, "tiny-llama"),
    "merge-at-border": ("merge-at-border", {}, "tiny-llama"),
    "conversational-prompt-completion": ("conversational-prompt-completion", {}, "tiny-llama"),
    "conversational-prompt-completion.assistant-only": ("conversational-prompt-completion", {"assistant_only_loss": True}, "tiny-llama"),
    "sharegpt": ("sharegpt", {}, "tiny-llama"),
    "tokenized": ("tokenized", {"max_length": 6}, "tiny-llama"),
    "tokenized-labels": ("tokenized-labels", {}, "tiny-llama"),
    "tokenized-masks": ("tokenized-masks", {}, "tiny-llama"),
    "tokenized-masks.completion-only": ("tokenized-masks", {"completion_only_loss": True}, "tiny-llama"),
}  # fmt: skip


def one(rows_name: str, args: dict, tokenizer: str) -> dict:
    rows = INLINE.get(rows_name) or read_rows(rows_name)
    numbered = [{**row, "index": index} for index, row in enumerate(rows)]
    trainer = build(load_model("tiny-llama"), numbered, tokenizer=tokenizer, **args)
    fed = trainer.train_dataset
    batches = []
    for start in range(0, min(len(fed), 8), 4):
        examples = [{k: fed[i][k] for k in ("input_ids", "labels")} for i in range(start, min(start + 4, len(fed)))]
        batch = trainer.data_collator(examples)
        batches.append({key: value.tolist() for key, value in batch.items()})
    source = {"inline": rows} if rows_name in INLINE else {"data": f"{rows_name}.jsonl"}
    return {
        **source,
        "args": args,
        "tokenizer": tokenizer,
        "rows": [{"index": row["index"], "input_ids": row["input_ids"], "labels": row["labels"]} for row in fed],
        "batches": batches,
    }


def make() -> None:
    for name, (rows_name, args, tokenizer) in CASES.items():
        write_json(GOLDENS / "tokens" / f"{name}.json", one(rows_name, args, tokenizer))
