/** The text of `optim_args`, "name=value,name=value", for the optimizers that take any. */
import { UserError } from "../errors.js";
import { didYouMean } from "../support/nearest.js";

const units: Record<string, number> = { "": 1, KB: 1e3, MB: 1e6, GB: 1e9, KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30 };

export interface PagingArguments {
  /** Bytes of optimizer states to keep in memory. */
  page_budget?: number;
}

/** @throws UserError naming the part that is not understood */
export function parsePagingArguments(text: string | null): PagingArguments {
  const result: PagingArguments = {};
  for (const part of (text ?? "").split(",").filter((piece) => piece.trim() !== "")) {
    const [name = "", value = ""] = part.split("=").map((piece) => piece.trim());
    if (name !== "page_budget") {
      throw new UserError(
        `optim_args: unknown name '${name}'${didYouMean(name, ["page_budget"])}; paged optimizers take page_budget, such as "page_budget=64MiB"`,
      );
    }
    const [, amount, unit] = /^([\d.]+)\s*([kmg]i?b)?$/i.exec(value) ?? [];
    const bytes = Number(amount) * (units[(unit ?? "").toUpperCase()] ?? Number.NaN);
    if (!(bytes >= 2 ** 20)) {
      throw new UserError(
        `optim_args: page_budget is '${value}'; it takes a size of at least 1MiB, such as 64MiB or 2GB`,
      );
    }
    result.page_budget = Math.floor(bytes);
  }
  return result;
}
