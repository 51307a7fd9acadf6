import { expect, it } from "vitest";
import { editJson } from "./editJson.js";

it("changes fields and leaves numbers as they are spelled", () => {
  const text =
    '{"cap": 30.0, "eps": 1e-05, "theta": 1e6, "big": -2.50e3, "size": 7, "name": "v1.0 \\"2.0\\"", "old": 1.0}';
  const edited = editJson(text, ({ old: _, ...rest }) => ({ ...rest, added: 4 }));
  for (const part of [
    '"cap": 30.0,',
    '"theta": 1e6,',
    '"big": -2.50e3,',
    '"size": 7,',
    '"v1.0 \\"2.0\\""',
    '"added": 4',
  ]) {
    expect(edited).toContain(part);
  }
  expect(edited).not.toContain("old");
  expect(JSON.parse(edited)).toEqual({
    cap: 30,
    eps: 1e-5,
    theta: 1e6,
    big: -2500,
    size: 7,
    name: 'v1.0 "2.0"',
    added: 4,
  });
});
