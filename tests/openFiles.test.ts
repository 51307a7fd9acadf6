/** Too few files for Node's own module loader: one line that says so. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { writeConfig } from "./support/cli.js";
import { temporaryFolders } from "./support/temporary.js";

const newFolder = temporaryFolders();
const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

it.skipIf(process.platform === "win32").each([40, 64])("with %d files that may be open", (limit) => {
  const folder = newFolder();
  const config = writeConfig(folder, { output_dir: join(folder, "out"), report_to: "none" });
  const command = `ulimit -n ${limit} && exec '${process.execPath}' '${MAIN}' train '${config}'`;
  const { status, stderr } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  expect(stderr).toBe("Too many files are open (EMFILE). Allow a process more of them, for instance: ulimit -n 1024\n");
  expect(status).toBe(1);
});
