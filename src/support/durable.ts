/** Files that are on disk when the call returns, whole. */

import { open, rename, rm } from "node:fs/promises";
import { FILE_LIMITS, readRegularFile } from "./regularFile.js";

/** Flushes a file or folder to disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a text and flushes it to disk. */
export async function writeSynced(path: string, text: string): Promise<void> {
  const handle = await open(path, "w");
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Replaces a file by a text: whoever reads it finds the old one or the new one, never a half. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  try {
    await writeSynced(partial, text);
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    throw error;
  }
}

/** The text of a file, or undefined where there is none that can be read. */
export const textOf = (path: string): Promise<string | undefined> =>
  readRegularFile(path, FILE_LIMITS.state).then(String, () => undefined);

/** Gives a file the text that it had, or removes it where it was not. */
export async function putBack(path: string, text: string | undefined): Promise<void> {
  if (text === undefined) await rm(path, { force: true });
  else await replaceFile(path, text);
}
