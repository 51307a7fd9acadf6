/** What generation_config.json says. */
import { join } from "node:path";
import { GENERATION_CONFIG } from "../files/modelFolder.js";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";

/** The tokens that end an answer, by generation_config.json; none where there is no such file. */
export async function generationStops(folder: string): Promise<number[]> {
  const path = join(folder, GENERATION_CONFIG);
  try {
    const { eos_token_id: ids } = JSON.parse((await readRegularFile(path, FILE_LIMITS.config)).toString());
    return [ids].flat().filter((id) => Number.isInteger(id));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    if (error instanceof UserError) throw error;
    throw new UserError(`model: ${path} is not valid JSON: ${(error as Error).message}`);
  }
}
