/** Every architecture that slimtune trains, in the order of docs/models.md. */
import type { Architecture } from "./architecture.js";
import { cohere2 } from "./cohere2.js";
import { ernie4_5 } from "./ernie4_5.js";
import { exaone4 } from "./exaone4.js";
import { gemma } from "./gemma.js";
import { gemma2 } from "./gemma2.js";
import { gemma3 } from "./gemma3.js";
import { glm } from "./glm.js";
import { gpt2 } from "./gpt2.js";
import { gptNeox } from "./gptNeox.js";
import { granite } from "./granite.js";
import { helium } from "./helium.js";
import { hunyuan } from "./hunyuan.js";
import { llama } from "./llama.js";
import { ministral3 } from "./ministral3.js";
import { ministral, mistral } from "./mistral.js";
import { olmo2 } from "./olmo2.js";
import { olmo3 } from "./olmo3.js";
import { phi } from "./phi.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { smollm3 } from "./smollm3.js";
import { stablelm } from "./stablelm.js";
import { starcoder2 } from "./starcoder2.js";

export { wrappers } from "./wrappers.js";

export const architectures: readonly Architecture[] = [
  llama,
  qwen2,
  qwen3,
  gemma,
  gemma2,
  gemma3,
  mistral,
  ministral,
  ministral3,
  phi3,
  phi,
  smollm3,
  granite,
  olmo2,
  olmo3,
  gpt2,
  gptNeox,
  stablelm,
  starcoder2,
  exaone4,
  ernie4_5,
  hunyuan,
  helium,
  cohere2,
  glm,
];
