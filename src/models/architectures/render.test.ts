import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { supportedTypes } from "../config.js";
import { renderModels } from "./render.js";

const text = readFileSync(new URL("../../../docs/models.md", import.meta.url), "utf8");

it("docs/models.md is current (npm run build && node scripts/generate-docs.mjs)", () => {
  expect(text).toBe(renderModels(text));
});

it.each(supportedTypes())("docs/models.md names %s", (type) => expect(text).toContain(`| \`${type}\` |`));
