"""Order of the data, draws of the CPU generator, and a replay of a whole run's generator from plain torch calls."""

import json

import datasets
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from .paths import GOLDENS, write_json
from .rng import next_draw

HIDDEN, INTERMEDIATE, LAYERS = 64, 128, 2  # tiny-llama


def draws(seed: int) -> dict:
    """One stream: each value comes after the ones above it. int64 as strings (JavaScript's numbers are too small)."""
    torch.manual_seed(seed)
    return {
        "seed": seed,
        "random_int64": [str(torch.empty((), dtype=torch.int64).random_().item()) for _ in range(3)],
        "rand_3": torch.rand(3).tolist(),
        "uniform_20": torch.empty(20).uniform_(-0.125, 0.125).tolist(),
        "normal_3": torch.empty(3).normal_().tolist(),
        "normal_20": torch.empty(20).normal_().tolist(),
        "dropout_0.1_of_24_ones": torch.dropout(torch.ones(24), 0.1, True).tolist(),
        "randperm_5": torch.randperm(5).tolist(),
        "random_int64_after": str(next_draw()),
    }


def permutation(n: int, seed: int) -> dict:
    """Epoch e of a run with this seed and n rows: the generator of its own is seeded with seed + e."""
    orders = [torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch)).tolist() for epoch in range(3)]
    return {"n": n, "seed": seed, "epochs": orders}


def grouped(n: int, batch: int, seed: int) -> dict:
    lengths = [5 + (37 * i * i + 11 * i) % 97 for i in range(n)]
    order = get_length_grouped_indices(lengths, batch, generator=torch.Generator().manual_seed(seed))
    return {"lengths": lengths, "batch_size": batch, "seed": seed, "order": order}


def shuffled(n: int, seed: int) -> dict:
    """The order of `shuffle_dataset`: numpy's, not torch's."""
    rows = datasets.Dataset.from_dict({"row": list(range(n))})
    return {"n": n, "seed": seed, "order": rows.shuffle(seed=seed)["row"][:]}


def check_replay(name: str) -> None:
    """README's account of the generator, tried on a run: it must give every fingerprint that the run recorded."""
    run = json.loads((GOLDENS / "runs" / f"{name}.json").read_text())
    tokens = json.loads((GOLDENS / "tokens" / run["data"].replace(".jsonl", ".json")).read_text())
    lengths = {row["index"]: len(row["input_ids"]) for row in tokens["rows"]}
    seed, dropout = run["args"]["seed"], (run["lora"] or {}).get("lora_dropout", 0.0)
    by_length = run["args"].get("train_sampling_strategy") == "group_by_length"
    batch = run["args"]["per_device_train_batch_size"] * run["args"]["gradient_accumulation_steps"]
    torch.manual_seed(seed)
    assert str(next_draw()) == run["rng_next_after_init"], name
    epoch, left = -1, []
    for micro in run["micro_batches"]:
        if not left:
            epoch += 1
            torch.empty((), dtype=torch.int64).random_()
            if by_length:
                left = get_length_grouped_indices([lengths[i] for i in sorted(lengths)], batch)
            else:
                left = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        rows, left = left[: len(micro["rows"])], left[len(micro["rows"]) :]
        assert rows == micro["rows"], (name, rows, micro["rows"])
        assert str(next_draw()) == micro["rng_next"], name
        longest = max(lengths[row] for row in rows)
        if "neftune_noise_alpha" in run["args"]:
            torch.empty(len(rows), longest, HIDDEN).uniform_()
        if dropout:
            for width in ([HIDDEN] * 6 + [INTERMEDIATE]) * LAYERS:
                torch.dropout(torch.ones(len(rows), longest, width), dropout, True)


def make() -> None:
    for name in ["snippet-lora-hot", "lora-dropout", "neftune", "full-ft", "max-steps-uneven", "messages", "group-by-length"]:
        check_replay(name)
    write_json(
        GOLDENS / "order.json",
        {
            "draws": [draws(42), draws(1234567890123)],
            "random": [permutation(n, seed) for n in (1, 2, 21, 24, 1000) for seed in (42, 7)],
            "group_by_length": [grouped(21, 8, 42), grouped(200, 4, 7), grouped(513, 2, 1)],
            "shuffle_dataset": [shuffled(n, seed) for n, seed in [(1, 42), (2, 0), (21, 42), (24, 7), (1000, 4294967295)]],
        },
    )
