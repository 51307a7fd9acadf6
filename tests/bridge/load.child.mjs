/** node load.child.mjs <addon>: loads it, and computes a little. */
import { createRequire } from "node:module";

const native = createRequire(import.meta.url)(process.argv[2]);
native.free(native.call(native.findOp("aten::zeros"), [[2 ** 20]], false)[0]);
await native.flush();
