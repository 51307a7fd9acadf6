/**
 * Prints the float32 GFLOP/s of square matrix products in slimtune's engine, the best of about two seconds: what
 * LibTorch's own matrix product reaches on this machine when nothing else is done.
 */
import { flush, loadNative, ops, scope } from "../dist/torch/index.js";

const size = 2048;
const a = ops.zeros([size, size]);
const b = ops.zeros([size, size]);
ops.normal_(a, 0, 1);
ops.normal_(b, 0, 1);
await flush();
let shortest = Number.POSITIVE_INFINITY;
const end = performance.now() + 2000;
while (performance.now() < end) {
  const start = performance.now();
  scope(() => void ops.linear(a, b));
  await flush();
  shortest = Math.min(shortest, performance.now() - start);
}
a.dispose();
b.dispose();
const { torch_version, threads, cpu_capability } = loadNative().engineInfo();
console.log(JSON.stringify({ gflops: (2 * size ** 3) / shortest / 1e6, torch_version, threads, cpu_capability }));
