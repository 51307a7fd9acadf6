import { expect, it } from "vitest";
import { isHubId } from "./hubId.js";

it.each(["gpt2", "org/name", "HuggingFaceTB/SmolLM2-135M", "a/b.c-d_e", "_a/b_", "a"])("%s is an id", (text) => {
  expect(isHubId(text)).toBe(true);
});

it.each([
  "",
  "a/b/c",
  "/a",
  "a/",
  "./a",
  "../a",
  "a/..",
  "a--b",
  "a/b..c",
  "-a",
  "a-",
  "a/.b",
  "a b",
  "ä/b",
  "a\n",
  "~/x",
])("%j is none", (text) => {
  expect(isHubId(text)).toBe(false);
});
