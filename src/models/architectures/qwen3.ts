import { z } from "zod";
import { page } from "./architecture.js";
import { flag, sizeOrNull } from "./fields.js";
import { headsOf, llamaLike, rmsNorm } from "./parts.js";
import { qwenFields, qwenWindows } from "./qwen2.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({ ...qwenFields, head_dim: sizeOrNull(128), attention_bias: flag(false) });

export const qwen3 = page({
  family: "Qwen",
  models: "Qwen3 (the dense ones)",
  special: "a norm of each head of q and k",
  classes: { qwen3: "Qwen3ForCausalLM" },
  config,
  describe: (config, root) => {
    const { headDim } = headsOf(config);
    const windows = qwenWindows(config);
    const norm = (path: string, size: number) => rmsNorm(path, size, config.rms_norm_eps);
    return llamaLike(config, root, {
      norm,
      rope: rotation(config, headDim),
      biases: { qkv: config.attention_bias, o: config.attention_bias },
      attention: (layer, path) => ({
        window: windows[layer],
        qkNorm: { q: norm(`${path}.q_norm`, headDim), k: norm(`${path}.k_norm`, headDim), over: "each head" },
      }),
      defaultTargets: ["q_proj", "v_proj"],
    });
  },
});
