"""Every architecture, tiny: config, names and shapes of the weights, logits, gradients, greedy continuations, adapters."""

import json
import math
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

from . import formula
from .legacy import LEGACY, legacy
from .paths import FIXTURES, GOLDENS, write_json
from .variants import MULTIMODAL, VARIANTS, VOCAB, arguments

FOLDER = FIXTURES / "architectures"
RESULTS = GOLDENS / "architectures"
COLUMNS = slice(0, VOCAB, 6)
NEW_TOKENS = 16
IGNORE = -100
ADAPTER = dict(r=4, lora_alpha=8, target_modules="all-linear")
SEED = 16


def draw(seed: int, *shape: int) -> list:
    """Ids of plain text: neither the tokenizer's four special ones nor the last, which multimodal models give to images."""
    return torch.randint(4, VOCAB - 4, shape, generator=torch.Generator().manual_seed(seed)).tolist()


def padded() -> dict:
    ids, lengths = draw(SEED + 2, 3, 12), [12, 7, 4]
    return {"padded": [row[:length] for row, length in zip(ids, lengths, strict=True)], "unlabelled": 2}


INPUTS = {
    "columns": 6,
    "short": draw(SEED, 2, 12), "short_positions": [3, 7, 11],
    "long": draw(SEED + 1, 1, 200), "long_positions": [1, 31, 64, 100, 150, 199],
    **padded(),
    "prompts": [draw(SEED + 3, 5), draw(SEED + 4, 9)], "new_tokens": NEW_TOKENS,
    "adapter": ADAPTER,
}  # fmt: skip


def scale_of(name: str, shape: list[int], kind: str) -> tuple[float, float]:
    """Where a weight's numbers lie, as (around, spread): logits far from flat, activations near 1."""
    if "norm" in name or ".ln_" in name or "layernorm" in name or name.startswith("ln_"):
        plus_one = kind.startswith("gemma") and "vision" not in name
        return (0.0 if plus_one or name.endswith("bias") else 1.0, 0.25)
    if len(shape) == 1:
        return 0.0, 0.3
    if any(part in name for part in ("embed_tokens", "wte", "wpe", "embed_in", "lm_head", "embed_out")):
        return 0.0, 0.6
    fan_in = shape[0] if kind == "gpt2" and "lm_head" not in name else math.prod(shape[1:])
    return 0.0, math.sqrt(3.0 / fan_in)


def described(path: Path, kind: str) -> list[dict]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        shapes = {name: list(file.get_slice(name).get_shape()) for name in names}
        assert all(file.get_slice(name).get_dtype() == "F32" for name in names)
    return [
        {"name": name, "shape": shapes[name], "around": around, "spread": float(f"{spread:.4g}")}
        for name in names
        for around, spread in [scale_of(name, shapes[name], kind)]
    ]


def classes(kind: str):
    return AutoModelForImageTextToText if kind in MULTIMODAL else AutoModelForCausalLM


def attention(config) -> str:
    """What transformers takes by itself; but its sdpa forgets soft caps on attention."""
    text = config.get_text_config()
    return "eager" if getattr(text, "attn_logit_softcapping", None) is not None else "sdpa"


def published(entries: list[dict], config: dict) -> list[dict]:
    """GPT-2's first spelling."""
    config.update(n_ctx=config["n_positions"], task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}})
    masks = [{"name": f"h.{i}.attn.bias", "shape": [1, 1, 256, 256], "around": 0.0, "spread": 1.0, "ignored": True} for i in range(config["n_layer"])]
    for entry in entries:
        entry["name"] = entry["name"].removeprefix("transformer.")
    return sorted([*entries, *masks], key=lambda entry: entry["name"])


def make_folder(name: str, folder: Path) -> list[dict]:
    """config.json and weights.json in the fixtures; the whole model, weights and all, in `folder`."""
    kind, values = arguments(name)
    torch.manual_seed(SEED)
    config = CONFIG_MAPPING[kind](**values)
    classes(kind).from_config(config).save_pretrained(folder)
    entries = described(folder / "model.safetensors", kind)
    target = FOLDER / name
    target.mkdir(parents=True)
    saved = json.loads((folder / "config.json").read_text())
    if name == "gpt2-published":
        entries = published(entries, saved)
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n")
    shutil.copy(folder / "config.json", target / "config.json")
    tensors = {e["name"]: formula.weight(e["name"], e["shape"], e["around"], e["spread"]) for e in entries}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return entries


def formula_weights(variant: str, path: Path) -> None:
    """The weights of a variant that was made before, as its file."""
    tensors = json.loads((FOLDER / variant / "weights.json").read_text())["tensors"]
    weights = {name: formula.weight(name, shape, around, spread) for name, shape, around, spread, *_ in tensors}
    save_file(weights, path, metadata={"format": "pt"})


def load(folder: Path, kind: str):
    torch.manual_seed(SEED)
    model, info = classes(kind).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    model.set_attn_implementation(attention(model.config))
    return model.eval()


def file_names(model, entries: list[dict]) -> dict[str, str]:
    """The file's name of each parameter, found by its numbers."""
    named = {}
    for name, param in model.named_parameters():
        found = [
            e for e in entries
            if e["shape"] == list(param.shape) and torch.equal(param, formula.weight(e["name"], e["shape"], e["around"], e["spread"]))
        ]  # fmt: skip
        assert len(found) == 1, (name, found)
        named[name] = found[0]["name"]
    return named


def summary(name: str, gradient: torch.Tensor) -> list[float]:
    """A gradient in seven numbers: its norm, its products with two vectors, its first four elements."""
    flat = gradient.detach().double().flatten()
    products = [flat @ torch.from_numpy(formula.unit(f"{name}#{i}", flat.numel())).double() for i in (0, 1)]
    first = torch.cat([flat[:4], torch.zeros(4, dtype=torch.float64)])[:4]
    return [flat.norm().item(), *(product.item() for product in products), *first.tolist()]


def logits(model, ids: list[list[int]], positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Every sixth column, and the logarithm of the sum of all columns' exponentials. [rows, positions, 64], [rows, positions]"""
    with torch.no_grad():
        chosen = model(input_ids=torch.tensor(ids), use_cache=False).logits[:, positions]
    return chosen[..., COLUMNS].contiguous(), chosen.double().logsumexp(-1).float()


def loss(model) -> torch.Tensor:
    width = max(map(len, INPUTS["padded"]))
    ids = torch.tensor([row + [3] * (width - len(row)) for row in INPUTS["padded"]])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in INPUTS["padded"]])
    labels = torch.where(mask == 1, ids, IGNORE)
    labels[:, : INPUTS["unlabelled"]] = IGNORE
    model.zero_grad()
    value = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    value.backward()
    return value.detach()


def greedy(model, prompt: list[int]) -> list[int]:
    """Through the cache. No choice is so near that rounding could turn it."""
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 3
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    for scores in out.scores:
        best, second = scores[0].topk(2).values
        assert best - second > 2e-4, f"a near choice: {best} and {second}"
    return out.sequences[0, len(prompt) :].tolist()


def adapted(model, kind: str):
    excluded = {"exclude_modules": r".*(vision_tower|multi_modal_projector).*"} if kind in MULTIMODAL else {}
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **ADAPTER, **excluded)).eval()
    shapes = []
    with torch.no_grad():
        for name, param in peft.named_parameters():
            if not param.requires_grad:
                continue
            saved = name.replace(".default.", ".")
            spread = 0.5 if "lora_A" in name else 0.05
            param.copy_(formula.weight(saved, list(param.shape), 0.0, spread))
            shapes.append({"name": saved, "shape": list(param.shape), "around": 0.0, "spread": spread})
    return peft, shapes


def golden(name: str) -> None:
    kind = VARIANTS[name][0]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        entries = make_folder(name, folder)
        model = load(folder, kind)
    names = file_names(model, entries)
    results: dict[str, torch.Tensor] = {}
    results["logits"], results["sums"] = logits(model, INPUTS["short"], INPUTS["short_positions"])
    results["long_logits"], results["long_sums"] = logits(model, INPUTS["long"], INPUTS["long_positions"])
    assert results["logits"].std() > 0.3, f"{name}: flat logits"
    results["loss"] = loss(model).reshape(1)
    gradients = {names[n]: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for entry in entries:
        if entry["name"] not in gradients:
            entry["ignored" if entry["name"] not in names.values() else "carried"] = True
    trained = [entry["name"] for entry in entries if entry["name"] in gradients]
    results["gradients"] = torch.tensor([summary(n, gradients[n]) for n in trained])
    model.zero_grad()
    results["generated"] = torch.tensor([greedy(model, prompt) for prompt in INPUTS["prompts"]])

    peft, shapes = adapted(model, kind)
    results["adapted.logits"], results["adapted.sums"] = logits(peft, INPUTS["short"], INPUTS["short_positions"][-1:])
    results["adapted.loss"] = loss(peft).reshape(1)
    grads = {n.replace(".default.", "."): p.grad for n, p in peft.named_parameters() if p.requires_grad}
    results["adapted.gradients"] = torch.tensor([summary(s["name"], grads[s["name"]]) for s in shapes])
    check_legacy(name, kind, entries, results["long_logits"])
    merged = peft.merge_and_unload()
    results["merged.logits"], results["merged.sums"] = logits(merged, INPUTS["short"], INPUTS["short_positions"][-1:])
    assert (results["merged.logits"] - results["adapted.logits"]).abs().max() < 1e-4
    save_file({key: value.contiguous() for key, value in results.items()}, RESULTS / f"{name}.safetensors")
    tied = sorted(set(dict(model.named_parameters(remove_duplicate=False))) - set(dict(model.named_parameters())))
    write_weights(FOLDER / name / "weights.json", entries, shapes, tied)


def check_legacy(name: str, kind: str, entries: list[dict], expected: torch.Tensor) -> None:
    """Writes config.json in the spelling of transformers 4, which must be the same model."""
    if name not in LEGACY:
        return
    config = legacy(json.loads((FOLDER / name / "config.json").read_text()), kind)
    text = json.dumps(config, indent=2) + "\n"
    (FOLDER / name / "legacy.json").write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(text)
        tensors = {e["name"]: formula.weight(e["name"], e["shape"], e["around"], e["spread"]) for e in entries}
        save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        found, _ = logits(load(Path(folder), kind), INPUTS["long"], INPUTS["long_positions"])
    assert torch.equal(found, expected), f"{name}: the old spelling is another model"


def write_weights(path: Path, tensors: list[dict], adapter: list[dict], tied: list[str]) -> None:
    """JSON with a tensor a line: its name, shape, around and spread, and what it is if it is not trained."""

    def line(entry: dict) -> str:
        role = [role for role in ("ignored", "carried") if role in entry]
        return json.dumps([entry["name"], entry["shape"], entry["around"], entry["spread"], *role], separators=(",", ":"))

    lists = {"tensors": tensors, "adapter": adapter}
    parts = [f'"{key}":[\n' + ",\n".join(map(line, entries)) + "\n]" for key, entries in lists.items()]
    path.write_text("{" + ",\n".join([*parts, f'"tied":{json.dumps(tied)}']) + "}\n")


def make(*names: str) -> None:
    """All variants, or those named alone: a new one leaves the others' last digits as they are."""
    for name in names or [folder.name for folder in FOLDER.iterdir() if folder.is_dir()]:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        (RESULTS / f"{name}.safetensors").unlink(missing_ok=True)
    write_json(RESULTS / "inputs.json", INPUTS)
    for name in names or VARIANTS:
        print("  ", name, flush=True)
        golden(name)
    write_json(FOLDER / "variants.json", {name: kind for name, (kind, _) in VARIANTS.items()})
