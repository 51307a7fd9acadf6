/** node cutOff.child.mjs <addon> <file>: reads a mapped file that is cut off while it is in use. */
import { statSync, truncateSync } from "node:fs";
import { createRequire } from "node:module";

const [addon, path] = process.argv.slice(2);
const native = createRequire(import.meta.url)(addon);
const { size } = statSync(path);
const tensor = native.fileTensor(native.mapFile(path), 0, "uint8", [size]);
truncateSync(path, 100);
native.toBytes(native.call(native.findOp("aten::sum"), [tensor], false)[0]).then(
  () => console.log("read"),
  (error) => console.log(error.message),
);
