/** Several sequences being continued, one token each at a time, with their keys and values kept. */
import { type Batch, collate } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import type { Attention } from "../models/decoder.js";
import { PackedAttention } from "../models/packedAttention.js";
import { fromBool, keep, noGrad, ops, scope, Tensor } from "../torch/index.js";

/** Positions that a cache grows by. */
const BLOCK = 128;

interface LayerCache {
  k: Tensor; // [B, kv heads, capacity, D]
  v: Tensor;
}

/** Sequences are aligned at their ends, so that every new token lands at the same place of the cache. */
class KeyValueCache {
  readonly layers: LayerCache[] = [];
  readonly lengths: number[];
  /** Places in use, those of shorter sequences' padding on the left included. */
  used: number;
  capacity: number;

  constructor(lengths: number[]) {
    this.lengths = lengths;
    this.used = Math.max(...lengths);
    this.capacity = Math.ceil((this.used + 1) / BLOCK) * BLOCK;
  }

  dispose(): void {
    for (const { k, v } of this.layers) {
      k.dispose();
      v.dispose();
    }
  }
}

/** Attends within the prompts as in training, and fills the cache. */
class PrefillAttention implements Attention {
  readonly #cache: KeyValueCache;
  readonly #packed: PackedAttention;
  readonly #headDim: number;
  readonly #kvHeads: number;

  constructor(cache: KeyValueCache, kvHeads: number, headDim: number) {
    this.#cache = cache;
    this.#packed = new PackedAttention(cache.lengths);
    this.#kvHeads = kvHeads;
    this.#headDim = headDim;
  }

  attend(layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor {
    this.#cache.layers[layer] = { k: this.#place(k), v: this.#place(v) };
    return this.#packed.attend(layer, q, k, v);
  }

  /** [N, kv heads, D] -> [B, kv heads, capacity, D] */
  #place(x: Tensor): Tensor {
    const { lengths, used, capacity } = this.#cache;
    const cache = keep(ops.zeros([lengths.length, this.#kvHeads, capacity, this.#headDim], this.#dtype(x)));
    let start = 0;
    lengths.forEach((length, row) => {
      const target = ops.narrow(ops.select(cache, 0, row), 1, used - length, length); // [kv heads, T, D]
      ops.copy_(target, ops.transpose(ops.narrow(x, 0, start, length), 0, 1));
      start += length;
    });
    return cache;
  }

  #dtype(x: Tensor) {
    return x.info.dtype;
  }
}

/** Attends from one new token of each sequence to all before it. */
class StepAttention implements Attention {
  readonly #cache: KeyValueCache;
  readonly #mask: Tensor | undefined;
  readonly #shape: { rows: number; heads: number; kvHeads: number; headDim: number };

  constructor(cache: KeyValueCache, shape: { rows: number; heads: number; kvHeads: number; headDim: number }) {
    this.#cache = cache;
    this.#shape = shape;
    const { lengths, used } = cache;
    const longest = Math.max(...lengths);
    if (lengths.some((length) => length !== longest)) {
      const visible = lengths.flatMap((length) => Array.from({ length: used }, (_, i) => i >= longest - length));
      this.#mask = fromBool(visible, [lengths.length, 1, 1, used]);
    }
  }

  attend(layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor {
    const { rows, heads, kvHeads, headDim } = this.#shape;
    const { used } = this.#cache;
    const cache = this.#cache.layers[layer]!;
    ops.copy_(ops.narrow(cache.k, 2, used - 1, 1), ops.reshape(k, [rows, kvHeads, 1, headDim]));
    ops.copy_(ops.narrow(cache.v, 2, used - 1, 1), ops.reshape(v, [rows, kvHeads, 1, headDim]));
    const y = ops.attention(
      ops.reshape(q, [rows, heads, 1, headDim]),
      ops.narrow(cache.k, 2, 0, used),
      ops.narrow(cache.v, 2, 0, used),
      { mask: this.#mask, grouped: true },
    ); // [B, heads, 1, D]
    return ops.reshape(y, [rows, heads * headDim]);
  }
}

/** Continues prompts: `start` once, then `step` with one chosen token per sequence. */
export class Session {
  readonly #model: CausalLM;
  readonly #cache: KeyValueCache;
  readonly #prompts: readonly Int32Array[];

  constructor(model: CausalLM, prompts: readonly Int32Array[]) {
    this.#model = model;
    this.#prompts = prompts;
    this.#cache = new KeyValueCache(prompts.map((prompt) => prompt.length));
  }

  /** Logits after each prompt, [B, V]. */
  start(): Tensor {
    const batch: Batch = collate(this.#prompts.map((inputIds) => ({ inputIds, labels: inputIds })));
    const { kvHeads, headDim } = this.#model.config;
    let end = -1;
    const last = this.#prompts.map((prompt) => (end += prompt.length));
    return this.#forward(batch, new PrefillAttention(this.#cache, kvHeads, headDim), last);
  }

  /** Logits after the tokens, [B, V]. */
  step(tokens: readonly number[]): Tensor {
    const positions = this.#cache.lengths.map((length) => length + this.#generated);
    this.#cache.used++;
    this.#grow();
    this.#generated++;
    const { heads, kvHeads, headDim } = this.#model.config;
    return noGrad(() =>
      scope(() => {
        const attention = new StepAttention(this.#cache, { rows: tokens.length, heads, kvHeads, headDim });
        return this.#decode(tokens, positions, attention);
      }),
    );
  }

  #generated = 0;

  #forward(batch: Batch, attention: Attention, rows: readonly number[]): Tensor {
    return noGrad(() =>
      scope(() => {
        const { decoder } = this.#model;
        const hidden = decoder.hidden({ ids: batch.inputIds, positions: batch.positions, longest: batch.longest, attention });
        return decoder.logits(decoder.headInput(ops.indexSelect(hidden, 0, ops.int64(rows))));
      }),
    );
  }

  #decode(tokens: readonly number[], positions: readonly number[], attention: Attention): Tensor {
    const { decoder } = this.#model;
    const longest = Math.max(...positions) + 1;
    return decoder.logits(decoder.headInput(decoder.hidden({ ids: tokens, positions, longest, attention })));
  }

  #grow(): void {
    const cache = this.#cache;
    if (cache.used <= cache.capacity) return;
    const { kvHeads, headDim } = this.#model.config;
    const rows = cache.lengths.length;
    for (const layer of cache.layers) {
      for (const side of ["k", "v"] as const) {
        const old = layer[side];
        layer[side] = keep(
          noGrad(() => scope(() => ops.cat([old, ops.zerosLikeShape(old, [rows, kvHeads, BLOCK, headDim])], 2))),
        );
        old.dispose();
      }
    }
    cache.capacity += BLOCK;
  }

  dispose(): void {
    this.#cache.dispose();
  }
}
