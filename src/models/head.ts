/** The output head: the final norm, then the vocabulary's weights, with a LoRA adapter on them or none. */
import { type Device, fused, ops, scope, type Tensor } from "../torch/index.js";
import { type DropoutSource, forward, type Linear } from "./linear.js";
import { joinScores, type ScoreOptions, scoreTokens, type TokenScores } from "./scores.js";
import type { TrainedRows } from "./trainedRows.js";

/** Elements of one block of logits: 64 MiB in float32. */
const LOGIT_BLOCK = 1 << 24;

export interface CrossEntropyOptions {
  /** Share of each target that is spread evenly over the vocabulary. */
  smoothing: number;
  /** What the sum is multiplied by. */
  scale: number;
  /** Draws for the rows at hand. */
  dropout?: DropoutSource;
}

export interface LogitChanges {
  scale: number;
  softcap?: number;
}

/** What training, evaluation and generation ask about rows of the residual stream after the last layer: [L, H], float32. */
export class Head {
  readonly linear: Linear<Tensor>; // [V, H]; its weight is the embedding where they are tied
  /** Trained rows in place of the matrix's own. */
  rows: TrainedRows | undefined;
  readonly #norm: fused.Norm; // of [H]
  readonly #scale: number;
  readonly #softcap: number;
  readonly #device: Device;

  /** Logits are softcap(scale · (W·norm(x) + bias)). */
  constructor(linear: Linear<Tensor>, norm: fused.Norm, { scale, softcap = 0 }: LogitChanges, device: Device) {
    this.linear = linear;
    this.#norm = norm;
    this.#scale = scale;
    this.#softcap = softcap;
    this.#device = device;
  }

  /** [L, V], float32 */
  logits(rows: Tensor): Tensor {
    return scope(() => this.#product(this.#normed(rows)));
  }

  /** Σ cross entropy × scale, a scalar with a graph. No [L, V] exists: the op goes through the vocabulary in blocks. */
  crossEntropy(rows: Tensor, targets: Int32Array, { smoothing, scale, dropout }: CrossEntropyOptions): Tensor {
    return scope(() => {
      const input = this.#normed(rows);
      const { weight, bias, lora, precision, outFeatures } = this.linear;
      if (lora?.magnitude) {
        // DoRA scales the rows of a sum of products, which the op knows nothing of: here all logits exist.
        const each = ops.crossEntropyEach(this.#product(input, dropout), this.#indices(targets), smoothing);
        return ops.mulScalar(ops.sum(each), scale);
      }
      // The logits are a sum of products, each input, [L, K], with its weight, [V, K].
      const [inputs, weights] = [[input], [weight]];
      const addVector = (vector: Tensor, factor: number) => {
        const ones = ops.addScalar(ops.zeros([targets.length, 1], precision.compute, this.#device), factor);
        inputs.push(ones); // [L, 1]
        weights.push(ops.reshape(vector, [outFeatures, 1]));
      };
      const addProduct = (x: Tensor, { a, b }: { a: Tensor; b: Tensor }, factor: number) => {
        inputs.push(ops.mulScalar(ops.linear(x, ops.to(a, precision.compute)), factor)); // [L, r]
        weights.push(b);
      };
      if (bias) addVector(bias, 1);
      if (lora) {
        const mask = this.linear.dropoutMask(dropout); // [L, H]
        addProduct(mask ? ops.mul(input, ops.to(mask, precision.compute)) : input, lora, lora.scaling);
        if (lora.bias) addVector(lora.bias, lora.scaling);
        if (lora.initial) addProduct(input, lora.initial, -lora.scaling);
      }
      if (this.rows) {
        const { input: x, weight: columns } = this.rows.logits(input, weight, outFeatures, precision.compute);
        inputs.push(x);
        weights.push(columns);
      }
      const scaled = this.#scale === 1 ? inputs : inputs.map((x) => ops.mulScalar(x, this.#scale));
      return fused.linearCrossEntropy(scaled, weights, this.#indices(targets), smoothing, scale, this.#softcap);
    });
  }

  /** Scores of each row's target; there must be one. Logits exist for a block of rows at a time. */
  scores(rows: Tensor, targets: Int32Array, options: ScoreOptions): TokenScores {
    return scope(() => {
      const input = this.#normed(rows);
      const step = Math.max(64, Math.floor(LOGIT_BLOCK / this.linear.outFeatures));
      const blocks: TokenScores[] = [];
      for (let start = 0; start < targets.length; start += step) {
        const block = targets.subarray(start, start + step);
        blocks.push(
          scope(() => {
            const logits = this.#product(ops.narrow(input, 0, start, block.length));
            return scoreTokens(logits, this.#indices(block), options);
          }),
        );
      }
      return joinScores(blocks);
    });
  }

  /** [L, H], in the compute dtype. */
  #normed(x: Tensor): Tensor {
    return fused.norm(x, this.#norm, this.linear.precision.compute);
  }

  /** The logits of normed rows, [L, V], float32. */
  #product(input: Tensor, dropout?: DropoutSource): Tensor {
    let logits = ops.to(forward([this.linear], { kind: "rows", x: input }, dropout)[0]!, "float32");
    if (this.rows) {
      const { weight, outFeatures, precision } = this.linear;
      const { input: x, weight: columns } = this.rows.logits(input, weight, outFeatures, precision.compute);
      logits = ops.add(logits, ops.linear(ops.to(x, "float32"), ops.to(columns, "float32")));
    }
    const scaled = this.#scale === 1 ? logits : ops.mulScalar(logits, this.#scale);
    if (this.#softcap === 0) return scaled;
    return ops.mulScalar(ops.tanh(ops.mulScalar(scaled, 1 / this.#softcap)), this.#softcap);
  }

  #indices(values: Int32Array): Tensor {
    return ops.int64(values, [values.length], this.#device);
  }
}
