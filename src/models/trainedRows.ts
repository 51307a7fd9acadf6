/** Rows of the embedding or of the head that are trained in place of the frozen ones: PEFT's trainable tokens. */
import { type Device, type DType, keep, noGrad, ops, scope, type Tensor } from "../torch/index.js";

const ONE = 0x3f80; // in bfloat16

export class TrainedRows {
  readonly tokens: readonly number[];
  readonly values: Tensor; // [k, H], float32
  readonly #device: Device;
  readonly #places: ReadonlyMap<number, number>;
  #columns: Tensor | undefined; // [V, k]: 1 where a row of the vocabulary is the k-th of these

  constructor(tokens: readonly number[], values: Tensor, device: Device) {
    this.tokens = tokens;
    this.values = values;
    this.#device = device;
    this.#places = new Map(tokens.map((token, i) => [token, i]));
  }

  /**
   * Embedded tokens, [N, H] in float32, with these rows where they belong.
   * @param padding a token whose row gets no gradient from here, as in PyTorch's embedding
   */
  embedded(x: Tensor, ids: ArrayLike<number>, padding?: number): Tensor {
    const held = padding !== undefined && this.#places.has(padding);
    const rows = Array.from(ids, (id, i) => {
      const place = this.#places.get(id);
      if (place === undefined) return i;
      return ids.length + place + (id === padding ? this.tokens.length : 0);
    });
    const all = ops.cat([x, this.values, ...(held ? [ops.detach(this.values)] : [])]);
    return ops.indexSelect(all, 0, ops.int64(rows, [rows.length], this.#device));
  }

  /** What these rows add to the logits of `input`, [L, H], with `matrix`, [V, H]: a product of [L, k] with [V, k]. */
  logits(input: Tensor, matrix: Tensor, vocabSize: number, compute: DType): { input: Tensor; weight: Tensor } {
    const change = scope(() => {
      const index = ops.int64(this.tokens, undefined, this.#device);
      const frozen = noGrad(() => ops.neg(ops.to(ops.indexSelect(matrix, 0, index), "float32")));
      return ops.to(ops.add(this.values, frozen), compute);
    });
    return { input: ops.linear(input, change), weight: this.#columnsOf(vocabSize) };
  }

  #columnsOf(vocabSize: number): Tensor {
    if (!this.#columns) {
      const width = this.tokens.length;
      const cells = new Uint16Array(vocabSize * width);
      for (const [i, token] of this.tokens.entries()) cells[token * width + i] = ONE;
      this.#columns = keep(ops.fromBytes(cells, "bfloat16", [vocabSize, width], this.#device));
    }
    return this.#columns;
  }

  dispose(): void {
    this.values.dispose();
    this.#columns?.dispose();
  }
}
