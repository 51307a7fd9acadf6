import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { OptimArgs } from "./optimArgs.js";

const budgetOf = (text: string | null) => new OptimArgs("paged_lion_8bit", text).optionalBytes("page_budget");

describe("OptimArgs", () => {
  it.each([
    [null, undefined],
    ["", undefined],
    ["page_budget=64MiB", 64 * 2 ** 20],
    [" page_budget = 1.5GB ", 1.5e9],
    ["page_budget=2097152", 2097152],
  ])("reads the size in %j", (text, bytes) => expect(budgetOf(text)).toBe(bytes));

  it("reads numbers and flags", () => {
    const args = new OptimArgs("sgd", "momentum=0.9, dampening=1e-3,nesterov=Yes,");
    expect([args.number("momentum", 0), args.number("dampening", 0), args.flag("nesterov")]).toEqual([0.9, 1e-3, true]);
    expect([args.number("other", 7), new OptimArgs("sgd", "nesterov=0").flag("nesterov")]).toEqual([7, false]);
    args.refuseUnread();
  });

  it.each([
    ["page_budget=lots", /optim_args: page_budget is 'lots'.*64MiB.*\(optim paged_lion_8bit\)/],
    ["page_budget=10", /at least 1MiB/],
    ["page_budget", /'page_budget' is no name=value/],
  ])("refuses %j", (text, message) => {
    expect(() => budgetOf(text)).toThrow(UserError);
    expect(() => budgetOf(text)).toThrow(message);
  });
});
