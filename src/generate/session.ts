/** Prompts being continued together, one token of each at a time. */
import { collate } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import type { DecoderInput } from "../models/decoder.js";
import { noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { KeyValueCache } from "./cache.js";

export class Session {
  readonly #model: CausalLM;
  readonly #prompts: readonly Int32Array[];
  readonly #cache: KeyValueCache;
  #steps = 0;

  constructor(model: CausalLM, prompts: readonly Int32Array[]) {
    const { heads, kvHeads, headDim } = model.description.layers[0]!.attention;
    this.#model = model;
    this.#prompts = prompts;
    this.#cache = new KeyValueCache(
      prompts.map(({ length }) => length),
      { heads, kvHeads, headDim, dtype: model.decoder.precision.compute, device: model.decoder.device },
    );
  }

  /** Logits after each prompt, [B, V]; called once. */
  start(): Tensor {
    const { inputIds, positions, longest } = collate(this.#prompts.map((ids) => ({ inputIds: ids, labels: ids })));
    let end = -1;
    const lastRows = this.#prompts.map(({ length }) => (end += length));
    return this.#forward(() => ({ ids: inputIds, positions, longest, attention: this.#cache.prefill() }), lastRows);
  }

  /** Logits after one more token of each sequence, [B, V]. */
  step(tokens: readonly number[]): Tensor {
    const positions = this.#cache.lengths.map((length) => length + this.#steps);
    this.#steps++;
    const longest = Math.max(...positions) + 1;
    return this.#forward(() => ({ ids: tokens, positions, longest, attention: this.#cache.step() }));
  }

  dispose(): void {
    this.#cache.dispose();
  }

  #forward(input: () => DecoderInput, rows?: readonly number[]): Tensor {
    const { decoder, head } = this.#model;
    return noGrad(() =>
      scope(() => {
        const hidden = decoder.hidden(input());
        const last = rows ? ops.indexSelect(hidden, 0, ops.int64(rows, [rows.length], decoder.device)) : hidden;
        return head.logits(last);
      }),
    );
  }
}
