/** What generation_config.json says. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../support/errors.js";

/** The tokens that end an answer, by generation_config.json; none where there is no such file. */
export async function generationStops(folder: string): Promise<number[]> {
  const path = join(folder, "generation_config.json");
  try {
    const { eos_token_id: ids } = JSON.parse(await readFile(path, "utf8"));
    return [ids].flat().filter((id) => Number.isInteger(id));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new UserError(`model: ${path} is not valid JSON: ${(error as Error).message}`);
  }
}
