"""TRL's packed datasets and padding-free batches."""

from .paths import GOLDENS, write_json
from .sft import build, load_model, read_rows

CASES = {
    "bfd": ("text", dict(packing=True, packing_strategy="bfd", max_length=96)),
    "bfd-short": ("text", dict(packing=True, packing_strategy="bfd", max_length=40)),
    "bfd-split": ("text", dict(packing=True, packing_strategy="bfd_split", max_length=40)),
    "wrapped": ("text", dict(packing=True, packing_strategy="wrapped", max_length=40)),
    "bfd-completion": ("prompt-completion", dict(packing=True, packing_strategy="bfd", max_length=128)),
    "wrapped-completion": ("prompt-completion", dict(packing=True, packing_strategy="wrapped", max_length=64)),
    "bfd-assistant-only": ("messages", dict(packing=True, packing_strategy="bfd", max_length=128, assistant_only_loss=True)),
    # Rows in which nothing is learned: TRL computes them like any other.
    "bfd-masked": ("prompt-completion", dict(packing=True, packing_strategy="bfd", max_length=16, shuffle_dataset=True)),
    "bfd-split-masked": ("prompt-completion", dict(packing=True, packing_strategy="bfd_split", max_length=12)),
    "wrapped-masked": ("prompt-completion", dict(packing=True, packing_strategy="wrapped", max_length=12)),
    "padding-free": ("text", dict(padding_free=True, max_length=None)),
}


def one(data: str, args: dict) -> dict:
    trainer = build(load_model("tiny-llama"), read_rows(data), **args)
    fed = trainer.train_dataset
    keys = [key for key in ("input_ids", "labels", "seq_lengths") if key in fed.column_names]
    rows = [{key: row[key] for key in keys} for row in fed]
    batch = trainer.data_collator([dict(row) for row in rows[:2]])
    return {
        "data": f"{data}.jsonl",
        "args": args,
        "rows": rows if args.get("packing") else [],
        "batch_of_first_two": {key: value.tolist() for key, value in batch.items()},
    }


def make() -> None:
    write_json(GOLDENS / "packing.json", {name: one(*case) for name, case in CASES.items()})
