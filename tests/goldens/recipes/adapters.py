"""Adapters of every kind that PEFT saves, each trained a little, with the logits it gives and what merging makes of it."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, set_seed

from . import architectures
from .logits import ids
from .paths import FIXTURES, GOLDENS, write_json
from .runs import HOT, LORA, NF4, execute, run

SEED = 42
QV = ["q_proj", "v_proj"]
# name → (model, LoraConfig's arguments)
CASES = {
    "rslora-patterns": (
        "tiny-llama",
        dict(r=4, lora_alpha=8, target_modules=[*QV, "down_proj"], use_rslora=True,
             rank_pattern={"q_proj": 6, r"layers.1.self_attn.v_proj": 2}, alpha_pattern={"v_proj": 32}),
    ),
    "layers-pattern": (
        "tiny-llama", dict(r=2, target_modules=QV, layers_to_transform=[1], layers_pattern="layers", exclude_modules=r".*k_proj"),
    ),
    "dora": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True)),
    "dora-bias": ("tiny-llama-bias", dict(r=4, target_modules=["q_proj", "gate_proj", "down_proj"], use_dora=True, bias="lora_only")),
    "dora-head": ("tiny-llama", dict(r=4, target_modules=["q_proj", "lm_head"], use_dora=True)),
    "dora-bf16": ("tiny-llama-bf16", dict(r=4, target_modules=QV, use_dora=True)),
    "lora-bias": ("tiny-llama-bias", dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj", "down_proj"], lora_bias=True)),
    "bias-all": ("tiny-llama-bias", dict(r=2, target_modules=QV, bias="all")),
    "bias-lora-only": ("tiny-llama-bias", dict(r=2, target_modules=QV, bias="lora_only")),
    "modules-to-save": ("tiny-llama", dict(r=2, target_modules=QV, modules_to_save=["embed_tokens", "lm_head", "norm"])),
    "modules-to-save-bias": ("tiny-llama-bias", dict(r=2, target_modules=QV, bias="all", modules_to_save=["k_proj", "layers.1.mlp"])),
    "modules-to-save-bf16": ("tiny-llama-bf16", dict(r=2, target_modules=QV, modules_to_save=["lm_head"])),
    "head-of-tied": ("tiny-llama-tied", dict(r=2, target_modules=QV, modules_to_save=["lm_head"])),
    "embedding-of-tied": ("tiny-llama-tied", dict(r=2, target_modules=QV, modules_to_save=["embed_tokens"])),
    "weights-kept-tied": ("tiny-llama-tied", dict(r=2, target_modules=QV, modules_to_save=["lm_head"], ensure_weight_tying=True)),
    "tokens": ("tiny-llama", dict(r=2, target_modules=QV, trainable_token_indices=[5, 11, 300])),
    "tokens-tied": ("tiny-llama-tied", dict(r=2, target_modules=QV, trainable_token_indices=[5, 11, 300])),
    "tokens-of-both": ("tiny-llama", dict(r=2, target_modules=QV, trainable_token_indices={"embed_tokens": [5, 11], "lm_head": [7]})),
    "tokens-of-tied-head": ("tiny-llama-tied", dict(r=2, target_modules=QV, trainable_token_indices={"lm_head": [7, 300]})),
    "pissa": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=[*QV, "down_proj"], init_lora_weights="pissa")),
    "olora": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=[*QV, "down_proj"], init_lora_weights="olora")),
    "orthogonal": ("tiny-llama", dict(r=4, target_modules=QV, init_lora_weights="orthogonal")),
    # Conv1D's weights are [in, out]; names of the file that are not Python's; one layer for q, k and v; a head with a bias.
    "gpt2-bias": ("architectures/gpt2", dict(r=4, target_modules=["c_attn", "c_proj", "c_fc"], bias="all", modules_to_save=["ln_2"])),
    "gpt2-dora": ("architectures/gpt2", dict(r=4, target_modules=["c_attn", "c_proj"], use_dora=True)),
    "gpt2-lora-bias": ("architectures/gpt2-published", dict(r=4, target_modules=["c_attn"], lora_bias=True)),
    "gpt2-pissa": ("architectures/gpt2-published", dict(r=4, target_modules=["c_attn"], init_lora_weights="pissa")),
    "phi3-dora": ("architectures/phi3", dict(r=4, target_modules="all-linear", use_dora=True)),
    "phi-head": ("architectures/phi", dict(r=4, target_modules=["q_proj", "dense"], bias="lora_only", modules_to_save=["lm_head"])),
    "gemma-tokens": ("architectures/gemma", dict(r=4, target_modules=QV, trainable_token_indices=[5, 11, 300])),
    "gemma2-head": ("architectures/gemma2", dict(r=4, target_modules=QV, modules_to_save=["lm_head"], ensure_weight_tying=True)),
    "cohere2-tokens": ("architectures/cohere2", dict(r=4, target_modules=QV, trainable_token_indices=[5, 11, 300])),
    "gemma3-dora": ("architectures/gemma3", dict(r=4, target_modules=r".*language_model.*\.(q_proj|down_proj)", use_dora=True)),
}  # fmt: skip
# Saved as PEFT recommends for an initialization that changes the base: as plain LoRA of twice the rank.
CONVERTED = {
    "pissa-converted": "pissa",
    "olora-rslora-converted": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=QV, init_lora_weights="olora", use_rslora=True)),
}


def base(name: str, dtype=None):
    dtype = dtype or (torch.bfloat16 if name.endswith("bf16") else torch.float32)
    if not name.startswith("architectures/"):
        return AutoModelForCausalLM.from_pretrained(FIXTURES / name, dtype=dtype).eval()
    config = FIXTURES / name / "config.json"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(config, folder)
        architectures.formula_weights(Path(name).name, Path(folder) / "model.safetensors")
        return architectures.load(Path(folder), json.loads(config.read_text())["model_type"])


def train_a_little(model) -> None:
    gen = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, param in sorted(model.named_parameters()):
            if param.requires_grad:
                spread = 0.02 if "lora_magnitude" in name else 0.05
                param.add_((spread * torch.empty_like(param, dtype=torch.float32).normal_(generator=gen)).to(param.dtype))


def save(model, folder, model_name: str, **how) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = model_name  # no path of the machine in the saved file
    model.save_pretrained(folder, **how)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    saved = json.loads(config.read_text())
    for key in ("target_modules", "exclude_modules"):
        if isinstance(saved[key], list):
            saved[key] = sorted(saved[key])  # a Python set: its order changes from run to run
    config.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")


def make_case(name: str, model_name: str, lora: dict, converted: bool) -> None:
    folder = FIXTURES / "adapters" / name
    set_seed(SEED)
    model = get_peft_model(base(model_name), LoraConfig(task_type="CAUSAL_LM", **lora)).eval()
    how = {}
    if converted:
        initial = FIXTURES / "adapters" / "initial"
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(initial)
        model.peft_config["default"].init_lora_weights = lora["init_lora_weights"]
        how = {"path_initial_model_for_weight_conversion": str(initial)}
    train_a_little(model)
    tokens = ids(3000, 2, 12)
    tokens[0, :4] = torch.tensor([5, 11, 300, 7])
    with torch.no_grad():
        before = model(tokens).logits
    save(model, folder, model_name, **how)
    if converted:
        shutil.rmtree(initial)

    with torch.no_grad():  # weights of 16 bits raised to float32, which is exact
        logits = PeftModel.from_pretrained(base(model_name, torch.float32), folder).eval()(tokens).logits
    assert torch.allclose(logits, before.float(), atol=0.5 if "bf16" in model_name else 1e-4), name
    plain = base(model_name)
    original = {key: value.clone() for key, value in plain.state_dict().items()}
    merged_model = PeftModel.from_pretrained(plain, folder).eval().merge_and_unload()
    after = {key: value.clone() for key, value in merged_model.state_dict().items()}
    changed = {key: value for key, value in after.items() if not torch.equal(value, original[key])}
    with torch.no_grad():
        merged = merged_model.float()(tokens).logits
    tied = merged_model.config.tie_word_embeddings
    save_file(
        {
            "input_ids": tokens,
            "logits": logits.float().contiguous(),
            "merged_logits": merged.float().contiguous(),
            "tied": torch.tensor(bool(tied)),
            **{
                f"merged.{key}": torch.stack([value.double().sum(), value.double().norm(), value.double().flatten()[-1]])
                for key, value in changed.items()
                if not (tied and key == "lm_head.weight")
            },
        },
        GOLDENS / "adapters" / f"{name}.safetensors",
    )


def make() -> None:
    (GOLDENS / "adapters").mkdir(exist_ok=True)
    for name, (model, lora) in CASES.items():
        make_case(name, model, lora, converted=False)
    for name, case in CONVERTED.items():
        model, lora = CASES[case] if isinstance(case, str) else case
        make_case(name, model, lora, converted=True)
    for name, spec in runs().items():
        write_json(GOLDENS / "runs" / f"{name}.json", execute(name, spec))


# Whole runs, laid over slimtune's by tests/adapters.runs.golden.test.ts.
KINDS = {
    "dora": dict(use_dora=True),
    "dora-dropout": dict(use_dora=True, lora_dropout=0.1),
    "rslora": dict(use_rslora=True),
    "pissa": dict(init_lora_weights="pissa"),
    "pissa-dropout": dict(init_lora_weights="pissa", lora_dropout=0.1),
    "pissa-niter": dict(init_lora_weights="pissa_niter_4"),
    "olora": dict(init_lora_weights="olora"),
    "orthogonal": dict(init_lora_weights="orthogonal"),
    "gaussian": dict(init_lora_weights="gaussian"),
    "uniform": dict(init_lora_weights=False),
    "modules-to-save": dict(target_modules=QV, modules_to_save=["embed_tokens", "lm_head", "norm"]),
    "tokens": dict(target_modules=QV, trainable_token_indices=[5, 11, 40, 41, 42]),
    "loraplus": dict(loraplus_lr_ratio=8.0, modules_to_save=["norm"]),
}
OTHER_MODELS = {
    "bias-all": ("tiny-llama-bias", dict(bias="all")),
    "bias-lora-only-dora": ("tiny-llama-bias", dict(target_modules=["q_proj", "down_proj"], bias="lora_only", use_dora=True)),
    "lora-bias": ("tiny-llama-bias", dict(lora_bias=True, lora_dropout=0.1)),
    "modules-to-save-tied": ("tiny-llama-tied", dict(target_modules=QV, modules_to_save=["embed_tokens"])),
    "modules-to-save-kept-tied": ("tiny-llama-tied", dict(target_modules=QV, modules_to_save=["lm_head"], ensure_weight_tying=True)),
    "tokens-tied": ("tiny-llama-tied", dict(target_modules=QV, trainable_token_indices=[5, 11, 40, 41, 42])),
}  # fmt: skip


QUANTIZED = {
    "qdora": dict(use_dora=True),
    "quantized-modules-to-save": dict(target_modules=QV, modules_to_save=["lm_head", "norm"]),
}


def runs() -> dict:
    both = {**{name: ("tiny-llama", kind) for name, kind in KINDS.items()}, **OTHER_MODELS}
    how = {**HOT, "num_train_epochs": 2, "weight_decay": 0.1, "loss_type": "nll"}
    plain = {name: run(model=model, lora={**LORA, "r": 4, **kind}, **how) for name, (model, kind) in both.items()}
    quantized = {name: run(lora={**LORA, "r": 4, **kind}, quantization=NF4, **how) for name, kind in QUANTIZED.items()}
    return {f"adapter-{name}": spec for name, spec in {**plain, **quantized}.items()}
