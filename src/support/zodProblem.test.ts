import { expect, it } from "vitest";
import { z } from "zod";
import { zodProblem } from "./zodProblem.js";

const schema = z.object({ lists: z.array(z.object({ size: z.number() })) });

it.each<[unknown, string | undefined, RegExp]>([
  [{ lists: [{ size: 1 }, { size: "x" }] }, undefined, /^lists\[1\]\.size: Invalid input: expected number/],
  [{ lists: [{ size: "x" }] }, "lora", /^lora\.lists\[0\]\.size: Invalid input/],
  [3, "lora", /^lora: Invalid input: expected object/],
  [3, undefined, /^Invalid input: expected object/],
])("%j under %s", (value, root, message) => {
  expect(zodProblem(schema.safeParse(value).error!, root)).toMatch(message);
});
