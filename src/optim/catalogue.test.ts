import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { chooseOptimizer, OPTIMIZER_NAMES } from "./catalogue.js";

const adam = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

describe("chooseOptimizer", () => {
  it.each(OPTIMIZER_NAMES)("%s is paged exactly where its name says so", (name) => {
    const { paging } = chooseOptimizer(name, null, adam);
    expect(paging).toEqual(name.startsWith("paged_") ? { budget: undefined } : undefined);
  });

  it("takes a budget for pages", () => {
    expect(chooseOptimizer("paged_adamw_8bit", "page_budget=2MiB", adam).paging).toEqual({ budget: 2 ** 21 });
  });

  it.each([
    ["paged_adamw_32bit", "page_budgit=1GB", /unknown parameter "page_budgit" \(did you mean "page_budget"\?\)/],
    ["adamw_torch", "beta1=0.5", /unknown parameter "beta1"; it takes none \(optim adamw_torch\)/],
    ["adafactor", "relative_step=true", /unknown parameter "relative_step"/],
    ["sgd", "momentom=0.9", /did you mean "momentum"/],
    ["sgd", "weight_decay=0.1", /weight_decay is an argument of its own/],
    ["sgd", "nesterov=true", /nesterov needs a momentum above 0 and no dampening/],
    ["sgd", "momentum=lots", /momentum must be a number, got "lots"/],
    ["sgd", "nesterov=maybe", /nesterov must be true or false, got 'maybe'/],
    ["rmsprop", "alpha=1.5", /alpha must be below 1, got 1.5/],
    ["rmsprop_bnb_8bit", "centered=true", /unknown parameter "centered"/],
    ["ademamix", "beta1=0,t_beta3=5", /beta1 must be above 0, got 0/],
  ])("%s refuses %j", (name, text, message) => {
    expect(() => chooseOptimizer(name, text, adam)).toThrow(UserError);
    expect(() => chooseOptimizer(name, text, adam)).toThrow(message);
  });
});
