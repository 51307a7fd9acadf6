/** What a schema found wrong, in the words of the config. */
import type { z } from "zod";

/** A place in an object as a person writes it: lora.rank_pattern, dataset[0].path. */
export const pathText = (path: readonly PropertyKey[]): string =>
  path.map((key, i) => (typeof key === "number" ? `[${key}]` : `${i > 0 ? "." : ""}${String(key)}`)).join("");

/**
 * The first problem as `root.key: what is wrong`, for a UserError.
 * @param root the option that was checked; absent: the top of a file
 */
export function zodProblem({ issues }: z.ZodError, root?: string): string {
  const { path, message } = issues[0]!;
  const place = pathText(root === undefined ? path : [root, ...path]);
  return place === "" ? message : `${place}: ${message}`;
}
