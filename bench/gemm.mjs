/**
 * Prints the float32 GFLOP/s that LibTorch's own matrix product reaches in slimtune's engine when nothing else is done:
 * at a large square, and at the shape of a model's layer (1,024 tokens, SmolLM2-135M's MLP). For each, the best of about
 * a second; the peak is the better of the two.
 */
import { flush, loadNative, ops, scope } from "../dist/torch/index.js";

const MILLISECONDS = 1000;

/** Rows, inputs, outputs. */
const shapes = [
  [2048, 2048, 2048],
  [1024, 576, 1536],
];

async function speed([rows, inputs, outputs]) {
  const a = ops.zeros([rows, inputs]);
  const b = ops.zeros([outputs, inputs]);
  for (const one of [a, b]) ops.normal_(one, 0, 1);
  await flush();
  let shortest = Number.POSITIVE_INFINITY;
  const end = performance.now() + MILLISECONDS;
  while (performance.now() < end) {
    const start = performance.now();
    scope(() => void ops.linear(a, b));
    await flush();
    shortest = Math.min(shortest, performance.now() - start);
  }
  a.dispose();
  b.dispose();
  return (2 * rows * inputs * outputs) / shortest / 1e6;
}

const measured = [];
for (const shape of shapes) measured.push({ shape: shape.join("×"), gflops: await speed(shape) });
const { torch_version, threads, cpu_capability } = loadNative().engineInfo();
const gflops = Math.max(...measured.map((one) => one.gflops));
console.log(JSON.stringify({ gflops, shapes: measured, torch_version, threads, cpu_capability }));
