/** A pass through the decoder's layers that can go back, layer by layer. */
import { backward, gradOf, noGrad, ops, replayRng, saveRng, setRequiresGrad, type Tensor } from "../torch/index.js";
import type { Decoder, DecoderInput, LayerContext } from "./decoder.js";

/** What the backward pass needs of a layer. */
interface Kept {
  index: number;
  input: Tensor; // [N, H]: where its graph begins
  output: Tensor | undefined; // [N, H]: where it ends; undefined: it is to be computed again
  random: Tensor | undefined; // the generator's state before the layer, where it is to be computed again
}

/**
 * The forward pass is made at once; `backward` follows when `hidden` has its gradient. Each layer has a graph of its own,
 * and below the lowest layer with something to train there is none. A checkpointed layer (gradient checkpointing, Chen et
 * al. 2016, arXiv:1604.06174) keeps its input only: its graph is made in the backward pass, from the same random numbers,
 * so that the gradients are the same bits.
 */
export class TrainingPass {
  /** The residual stream after the last layer, [N, H]: a leaf, whose gradient `backward` starts from. */
  readonly hidden: Tensor;
  readonly #decoder: Decoder;
  readonly #context: LayerContext;
  readonly #lowest: number;
  readonly #embedded: Tensor | undefined; // recorded, where the embedding is trained
  readonly #kept: Kept[] = [];

  /** @param recomputeEvery the layers 0, n, 2n, ... are checkpointed; 0: none */
  constructor(decoder: Decoder, input: DecoderInput, recomputeEvery: number) {
    this.#decoder = decoder;
    this.#context = decoder.context(input);
    this.#lowest = lowestTrained(decoder);
    let x = decoder.embed(input);
    if (this.#lowest < 0) this.#embedded = x;
    for (const index of decoder.layers.keys()) {
      x = this.#forward(index, x, recomputeEvery > 0 && index % recomputeEvery === 0);
    }
    this.hidden = this.#leaf(x, decoder.layers.length);
  }

  /** Adds the gradients of the layers and of the embedding. The random generator stays as it is. */
  backward(): void {
    if (this.#lowest >= this.#decoder.layers.length) return;
    const { device } = this.#decoder;
    const after = saveRng(device);
    let gradient = gradOf(this.hidden);
    for (const { index, input, output, random } of this.#kept.reverse()) {
      if (random) replayRng(random, device);
      const end = output ?? this.#decoder.layer(index, input, this.#context);
      backward(end, gradient);
      const next = index > this.#lowest ? gradOf(input) : undefined;
      for (const done of [gradient, input, end, random]) done?.dispose();
      if (!next) break;
      gradient = next;
    }
    if (this.#embedded) backward(this.#embedded, gradient);
    replayRng(after, device);
  }

  #forward(index: number, x: Tensor, checkpointed: boolean): Tensor {
    const run = (input: Tensor) => this.#decoder.layer(index, input, this.#context);
    if (index < this.#lowest) {
      const output = noGrad(() => run(x));
      x.dispose();
      return output;
    }
    const input = this.#leaf(x, index);
    const random = checkpointed ? saveRng(this.#decoder.device) : undefined;
    const output = checkpointed ? noGrad(() => run(input)) : run(input);
    this.#kept.push({ index, input, output: checkpointed ? undefined : output, random });
    return output;
  }

  /** The input of layer `index`, where its graph begins. */
  #leaf(x: Tensor, index: number): Tensor {
    const recorded = x === this.#embedded || x === this.#kept.at(-1)?.output;
    const leaf = recorded ? ops.detach(x) : x;
    if (index > this.#lowest) setRequiresGrad(leaf, true);
    return leaf;
  }
}

/** The lowest layer with something to train; -1: the embedding; the number of layers: none, only the head. */
function lowestTrained({ layers, embeddingTrained, rows }: Decoder): number {
  if (embeddingTrained || rows) return -1;
  const lowest = layers.findIndex(
    ({ attention: { qkv, o }, mlp: { inputs, down }, trained }) =>
      trained || [...qkv, o, ...inputs, down].some(({ lora }) => lora !== undefined),
  );
  return lowest < 0 ? layers.length : lowest;
}
