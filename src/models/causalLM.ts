/** A causal language model: a decoder, its parameters by Hugging Face's names, and its loss. */
import { backward, gradOf, noGrad, ops, scope, setRequiresGrad, type Tensor } from "../torch/index.js";
import { type Batch, paddedDropout } from "./batch.js";
import type { ModelConfig } from "./config.js";
import type { Decoder } from "./decoder.js";
import type { Linear } from "./linear.js";
import { PackedAttention } from "./packedAttention.js";

/** Elements of one block of logits: 64 MiB in float32. */
const LOGIT_BLOCK = 1 << 24;

export interface Parameter {
  name: string;
  tensor: Tensor;
  shape: number[];
}

export class CausalLM {
  readonly config: ModelConfig;
  readonly decoder: Decoder;
  /** Every weight by its name in the file, in the file format's module order; tied ones once. */
  readonly parameters: Map<string, Parameter>;
  /** Every linear layer by module path ("model.layers.0.self_attn.q_proj"), in module order, the head last. */
  readonly linears: Map<string, Linear>;

  constructor(decoder: Decoder, parameters: Map<string, Parameter>, linears: Map<string, Linear>) {
    this.config = decoder.config;
    this.decoder = decoder;
    this.parameters = parameters;
    this.linears = linears;
  }

  /** Logits of every token, [N, V], float32. */
  logits(batch: Batch): Tensor {
    return scope(() => this.decoder.logits(this.decoder.headInput(this.#hidden(batch, false))));
  }

  /**
   * Σ cross entropy over the batch's labelled tokens / items, and its gradients added to the trained weights'.
   * Logits exist at labelled positions only, a block at a time: each block's gradient flows into the head's input,
   * and from there once through the decoder.
   * @param items labelled tokens of the whole optimizer step
   * @param bodyTrains whether any trained weight lies before the head
   */
  lossAndGradients(batch: Batch, items: number, bodyTrains: boolean): Tensor {
    return scope(() => {
      const rows = ops.indexSelect(this.#hidden(batch, true), 0, ops.int64(batch.targetRows)); // [L, H]
      const output = this.decoder.headInput(rows);
      const input = ops.detach(output);
      if (bodyTrains) setRequiresGrad(input, true);
      const loss = this.#blocks(input, batch, (blockLoss) => {
        const scaled = ops.mulScalar(blockLoss, 1 / items);
        backward(scaled);
        return ops.detach(scaled);
      });
      if (bodyTrains) backward(output, gradOf(input));
      return loss;
    });
  }

  /** Σ cross entropy over the batch's labelled tokens, without gradients. */
  loss(batch: Batch): Tensor {
    return noGrad(() =>
      scope(() => {
        const rows = ops.indexSelect(this.#hidden(batch, false), 0, ops.int64(batch.targetRows));
        return this.#blocks(this.decoder.headInput(rows), batch, (blockLoss) => blockLoss);
      }),
    );
  }

  #hidden(batch: Batch, training: boolean): Tensor {
    return this.decoder.hidden({
      ids: batch.inputIds,
      positions: batch.positions,
      longest: batch.longest,
      attention: new PackedAttention(batch.lengths),
      dropout: training ? paddedDropout(batch) : undefined,
    });
  }

  /** Sums a block-wise loss over the rows of the head's input, [L, H]. */
  #blocks(input: Tensor, batch: Batch, finish: (blockLoss: Tensor) => Tensor): Tensor {
    const rows = batch.targets.length;
    const step = Math.max(64, Math.floor(LOGIT_BLOCK / this.config.vocabSize));
    const losses: Tensor[] = [];
    for (let start = 0; start < rows; start += step) {
      const length = Math.min(step, rows - start);
      losses.push(
        scope(() => {
          const logits = this.decoder.logits(length === rows ? input : ops.narrow(input, 0, start, length));
          return finish(ops.crossEntropySum(logits, ops.int64(batch.targets.slice(start, start + length))));
        }),
      );
    }
    return losses.length === 1 ? losses[0]! : ops.sum(ops.stack(losses));
  }

  dispose(): void {
    for (const { tensor } of this.parameters.values()) tensor.dispose();
    for (const { lora } of this.linears.values()) {
      lora?.a.dispose();
      lora?.b.dispose();
    }
  }
}
