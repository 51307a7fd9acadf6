"""LoRA: PEFT's initial weights and how they use the random generator, and a saved adapter with its logits."""

import json
import math
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, set_seed

from .logits import ids, load
from .paths import FIXTURES, GOLDENS, write_json
from .rng import next_draw

SEED = 42
# golden name → (model, LoraConfig arguments)
CASES = {
    "all-linear": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules="all-linear")),
    "default-targets": ("tiny-llama", dict(r=4)),
    "list": ("tiny-llama", dict(r=2, target_modules=["down_proj", "q_proj"])),
    "suffix": ("tiny-llama", dict(r=2, target_modules=["0.self_attn.q_proj", "mlp.up_proj"])),
    "regex": ("tiny-llama", dict(r=2, target_modules=r"model\.layers\.1\..*(k_proj|gate_proj)")),
    "lm-head": ("tiny-llama", dict(r=2, target_modules=["lm_head", "v_proj"])),
    "exclude": ("tiny-llama", dict(r=2, target_modules="all-linear", exclude_modules=["down_proj", "o_proj"])),
    "layers": ("tiny-llama", dict(r=2, target_modules=["q_proj", "v_proj"], layers_to_transform=[1])),
    "rslora": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=["q_proj"], use_rslora=True)),
    "patterns": (
        "tiny-llama",
        dict(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj", "v_proj"],
            rank_pattern={"q_proj": 6, r"model.layers.1.self_attn.v_proj": 2},
            alpha_pattern={"v_proj": 32},
        ),
    ),
    "gaussian": ("tiny-llama", dict(r=4, target_modules=["k_proj"], init_lora_weights="gaussian")),
    "bf16": ("tiny-llama-bf16", dict(r=2, target_modules=["k_proj"])),
    "bias": ("tiny-llama-bias", dict(r=2, target_modules="all-linear")),
}  # fmt: skip


def create(model_name: str, lora: dict, dtype):
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / model_name, dtype=dtype)
    set_seed(SEED)
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))


def lora_layers(model):
    return [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]


def replay(model, gaussian: bool) -> None:
    """Draws the same numbers with plain torch calls, in the documented order, and compares.

    PEFT draws in float32, then moves the adapter to the base weight's dtype, then raises it to float32 again: over a
    bf16 base the initial A is the draw rounded to bf16.
    """
    torch.manual_seed(SEED)

    def kaiming(rows: int, fan_in: int) -> torch.Tensor:
        bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(fan_in))
        return torch.empty(rows, fan_in).uniform_(-bound, bound)

    for _, module in lora_layers(model):
        weight = module.lora_A["default"].weight
        rank, fan_in = weight.shape
        kaiming(rank, fan_in)  # nn.Linear(in, r)'s own init of A, thrown away
        kaiming(module.out_features, rank)  # nn.Linear(r, out)'s own init of B, thrown away
        a = torch.empty(rank, fan_in).normal_(0, 1 / rank) if gaussian else kaiming(rank, fan_in)
        a = a.to(module.get_base_layer().weight.dtype).float()
        assert torch.equal(a, weight), "the documented order of draws is wrong"


def make_init() -> None:
    folder = GOLDENS / "lora-init"
    folder.mkdir(exist_ok=True)
    index = {}
    for name, (model_name, lora) in CASES.items():
        model = create(model_name, lora, torch.bfloat16 if name == "bf16" else torch.float32)
        after = next_draw()
        replay(model, lora.get("init_lora_weights") == "gaussian")
        assert next_draw() == after, "draws after the last layer"
        prefix = "base_model.model."
        layers = lora_layers(model)
        save_file(
            {f"{path}.lora_A.weight": module.lora_A["default"].weight.detach().contiguous() for path, module in layers},
            folder / f"{name}.safetensors",
        )
        trainable, total = model.get_nb_trainable_parameters()
        index[name] = {
            "model": model_name,
            "lora": lora,
            "seed": SEED,
            "order": [path.removeprefix(prefix) for path, _ in layers],
            "rank": [module.r["default"] for _, module in layers],
            "scaling": [module.scaling["default"] for _, module in layers],
            "dtype": str(layers[0][1].lora_A["default"].weight.dtype),
            "trainable_parameters": trainable,
            "total_parameters": total,
            "rng_next": str(after),
        }
    write_json(folder / "index.json", index)


def make_adapter() -> None:
    """A saved adapter whose B is not zero, the logits of the model with it, and of the merged model."""
    folder = FIXTURES / "tiny-llama-adapter"
    shutil.rmtree(folder, ignore_errors=True)
    # No path of the machine in the saved file.
    base = load("tiny-llama")
    set_seed(SEED)
    model = get_peft_model(
        base, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", rank_pattern={"q_proj": 2})
    )
    gen = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, module in lora_layers(model):
            weight = module.lora_B["default"].weight
            weight.copy_(0.1 * torch.empty_like(weight).normal_(generator=gen))
    model.peft_config["default"].base_model_name_or_path = "tiny-llama"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    saved = json.loads(config.read_text())
    saved["target_modules"] = sorted(saved["target_modules"])  # a Python set: its order changes from run to run
    config.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")

    tokens = ids(3000, 2, 12)
    reloaded = PeftModel.from_pretrained(load("tiny-llama"), folder).eval()
    with torch.no_grad():
        logits = reloaded(tokens).logits
        merged_model = reloaded.merge_and_unload()
        merged = merged_model(tokens).logits
    save_file(
        {
            "input_ids": tokens,
            "logits": logits.contiguous(),
            "merged_logits": merged.contiguous(),
            "merged.layers.0.q_proj": merged_model.model.layers[0].self_attn.q_proj.weight.detach().contiguous(),
        },
        GOLDENS / "logits" / "tiny-llama-adapter.safetensors",
    )


def make() -> None:
    make_init()
    make_adapter()
