/** What makes a checkpoint whole: every file's size and SHA-256, written last. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

export const MANIFEST = "manifest.json";

interface Manifest {
  format: 1;
  files: Record<string, { bytes: number; sha256: string }>;
}

const render = (manifest: Manifest) => `${JSON.stringify(manifest, null, 2)}\n`;

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

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

/** Lists every file of the folder with size and hash, and flushes all to disk. */
export async function seal(folder: string): Promise<void> {
  const files: Manifest["files"] = {};
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    await sync(path);
    files[name] = { bytes: (await stat(path)).size, sha256: await sha256(path) };
  }
  const manifest: Manifest = { format: 1, files };
  await writeSynced(join(folder, MANIFEST), render(manifest));
  await sync(folder);
}

/** Why the folder is not what its manifest says, or undefined when it is. */
export async function damage(folder: string): Promise<string | undefined> {
  let manifest: Manifest;
  let text: string;
  try {
    text = await readFile(join(folder, MANIFEST), "utf8");
    manifest = JSON.parse(text) as Manifest;
  } catch (error) {
    return `${MANIFEST} cannot be read (${(error as Error).message})`;
  }
  if (manifest?.format !== 1 || typeof manifest.files !== "object" || manifest.files === null) {
    return `${MANIFEST} has an unknown format`;
  }
  if (text !== render(manifest)) return `${MANIFEST} is not as it was written`;
  for (const [name, { bytes, sha256: expected }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    try {
      const { size } = await stat(path);
      if (size !== bytes) return `${name} has ${size} bytes instead of ${bytes}`;
      if ((await sha256(path)) !== expected) return `${name} has other contents than were saved`;
    } catch (error) {
      return `${name} cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`;
    }
  }
  return undefined;
}
