/** Every architecture that slimtune trains, in the order of docs/models.md. */
import type { Architecture } from "./architecture.js";
import { gemma } from "./gemma.js";
import { gemma2 } from "./gemma2.js";
import { gemma3 } from "./gemma3.js";
import { llama } from "./llama.js";
import { ministral3 } from "./ministral3.js";
import { ministral, mistral } from "./mistral.js";
import { phi } from "./phi.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen3 } from "./qwen3.js";
import { smollm3 } from "./smollm3.js";

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
];
