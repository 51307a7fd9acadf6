// Writes what is generated from the table of arguments: docs/arguments.md and src/arguments/types.generated.ts.
// Run it after `npm run build`; a test fails when either file is not current.
import { writeFileSync } from "node:fs";
import { renderDocs, renderTypes } from "../dist/arguments/render.js";

const root = new URL("../", import.meta.url);
const outputs = {
  "docs/arguments.md": renderDocs(),
  "src/arguments/types.generated.ts": renderTypes(),
};
for (const [path, text] of Object.entries(outputs)) {
  writeFileSync(new URL(path, root), text);
  console.log(`wrote ${path}`);
}
