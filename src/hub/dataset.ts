import { join } from "node:path";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { type DatasetChoice, selectDataFiles } from "./datasetFiles.js";
import { type HubOptions, openSnapshot } from "./snapshot.js";

/**
 * Resolves the id of a hub dataset to the local files of one configuration and split, downloading what the cache lacks.
 * @throws UserError when there is no such dataset, configuration, split or readable file, or the hub cannot be reached
 */
export async function resolveDataset(id: string, options: HubOptions & DatasetChoice = {}): Promise<string[]> {
  const snapshot = await openSnapshot("dataset", id, options);
  let readme: string | undefined;
  if (snapshot.paths.includes("README.md")) {
    await snapshot.fetch(["README.md"]);
    readme = (await readRegularFile(join(snapshot.folder, "README.md"), FILE_LIMITS.text)).toString();
  }
  const files = selectDataFiles(id, snapshot.paths, readme, options);
  await snapshot.fetch(files);
  await snapshot.complete();
  return files.map((path) => join(snapshot.folder, path));
}
