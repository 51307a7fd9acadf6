/**
 * Ends, in the way that is asked for, while the engine is busy and reads are pending.
 *   node exit.child.mjs <addon> <way>
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const [addon, way] = isMainThread ? process.argv.slice(2) : [workerData.addon, "work"];
const native = createRequire(import.meta.url)(addon);
const matmul = native.findOp("aten::matmul");
const SIZE = 256;

/** Queues products without waiting: about a second of work, and with it reads that nobody settles in time. */
function enqueue(products = 400) {
  const x = native.fromBytes(new Float32Array(SIZE * SIZE).fill(1 / SIZE), "float32", [SIZE, SIZE], "cpu");
  let last = x;
  for (let i = 0; i < products; i++) {
    [last] = native.call(matmul, [last, x], true);
    if (i % 100 === 0) native.toBytes(last).catch(() => {});
  }
  return last;
}

async function terminateWorkers() {
  for (let round = 0; round < 6; round++) {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { addon } });
    await new Promise((resolve) => worker.once("message", resolve));
    await new Promise((resolve) => setTimeout(resolve, round * 3));
    await worker.terminate();
  }
  const last = enqueue(3); // this thread's engine is its own
  const { data } = await native.toBytes(last);
  console.log(`first ${new Float32Array(data)[0] > 0}`);
}

switch (way) {
  case "work": // in a worker: until it is terminated, in a call or between two
    parentPort.postMessage("busy");
    for (;;) {
      const last = enqueue(50);
      for (let i = 0; i < 500; i++) native.describe(last);
      await new Promise((resolve) => setImmediate(resolve));
    }
  case "exit":
    enqueue();
    process.exit(7);
    break;
  case "exit from a promise":
    enqueue();
    Promise.resolve().then(() => process.exit(8));
    break;
  case "exit in an exit handler's time":
    process.on("exit", () => enqueue());
    enqueue();
    break;
  case "throw":
    enqueue();
    throw new Error("uncaught");
  case "reject":
    enqueue();
    Promise.reject(new Error("unhandled"));
    break;
  case "failed op":
    enqueue();
    native.toBytes(
      native.call(matmul, [native.fromBytes(new Float32Array(1), "float32", [1], "cpu"), enqueue(1)], false)[0],
    );
    break;
  case "signal":
    enqueue(5000);
    process.stdout.write("ready\n");
    setInterval(() => {}, 1000);
    break;
  case "end": {
    const x = native.fromBytes(new Float32Array(SIZE * SIZE), "float32", [SIZE, SIZE], "cpu");
    for (let i = 0; i < 400; i++) native.call(matmul, [x, x], false); // no read: nothing keeps Node alive
    break;
  }
  case "pending read":
    native.toBytes(enqueue(100)).then(({ shape }) => console.log(`read ${shape}`));
    break;
  case "terminated workers":
    await terminateWorkers();
    break;
  case "exit with a busy worker":
    new Worker(fileURLToPath(import.meta.url), { workerData: { addon } }).once("message", () => {
      enqueue();
      process.exit(9);
    });
    break;
  default:
    throw new Error(`unknown way ${way}`);
}
