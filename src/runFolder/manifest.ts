/** What makes a checkpoint whole: every file's size and SHA-256, written last. */

import { createHash } from "node:crypto";
import { lstat, readdir, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { sync, writeSynced } from "../support/durable.js";
import { isPlainPath } from "../support/plainPath.js";
import { FILE_LIMITS, openRegularFile, readRegularFile } from "../support/regularFile.js";
import { MANIFEST } from "./files.js";

const manifestSchema = z.strictObject({
  format: z.literal(1),
  files: z
    .record(z.string().refine(isPlainPath), z.strictObject({ bytes: z.int().min(0), sha256: z.string() }))
    .refine((files) => Object.keys(files).length > 0),
});
type Manifest = z.output<typeof manifestSchema>;

const render = (manifest: Manifest) => `${JSON.stringify(manifest, null, 2)}\n`;

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await using file = await openRegularFile(path);
  await pipeline(file.createReadStream({ autoClose: false }), hash);
  return hash.digest("hex");
}

/** Lists every file of the folder, and of folders in it, with size and hash, and flushes all to disk. */
export async function seal(folder: string): Promise<void> {
  const files: Manifest["files"] = {};
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => ({ path: join(entry.parentPath, entry.name), isFile: entry.isFile() }));
  for (const { path, isFile } of paths.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    await sync(path);
    if (!isFile) continue;
    const name = relative(folder, path).replaceAll(sep, "/");
    files[name] = { bytes: (await stat(path)).size, sha256: await sha256(path) };
  }
  const manifest: Manifest = { format: 1, files };
  await writeSynced(join(folder, MANIFEST), render(manifest));
  await sync(folder);
}

/** Why the folder is not what its manifest says, or undefined when it is. Every file is read. */
export async function damage(folder: string): Promise<string | undefined> {
  const manifest = await readManifest(folder);
  if (typeof manifest === "string") return manifest;
  for (const [name, expected] of Object.entries(manifest.files)) {
    const reason =
      (await sizeDamage(folder, name, expected.bytes)) ?? (await contentDamage(folder, name, expected.sha256));
    if (reason) return reason;
  }
  return undefined;
}

/** Whether the folder has its files with their sizes: quick, and blind to changed contents. */
export async function looksWhole(folder: string): Promise<boolean> {
  const manifest = await readManifest(folder);
  if (typeof manifest === "string") return false;
  for (const [name, { bytes }] of Object.entries(manifest.files)) {
    if (await sizeDamage(folder, name, bytes)) return false;
  }
  return true;
}

/** The manifest, or why it cannot be used. */
async function readManifest(folder: string): Promise<Manifest | string> {
  let text: string;
  let value: unknown;
  try {
    text = (await readRegularFile(join(folder, MANIFEST), FILE_LIMITS.config)).toString();
    value = JSON.parse(text);
  } catch (error) {
    return `${MANIFEST} cannot be read (${(error as Error).message})`;
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) return `${MANIFEST} has an unknown format`;
  return text === render(parsed.data) ? parsed.data : `${MANIFEST} is not as it was written`;
}

async function sizeDamage(folder: string, name: string, bytes: number): Promise<string | undefined> {
  const info = await lstat(join(folder, name)).catch((error: NodeJS.ErrnoException) => error.code ?? error.message);
  if (typeof info === "string") return `${name} cannot be read (${info})`;
  if (!info.isFile()) return `${name} is no regular file`;
  return info.size === bytes ? undefined : `${name} has ${info.size} bytes instead of ${bytes}`;
}

async function contentDamage(folder: string, name: string, expected: string): Promise<string | undefined> {
  try {
    return (await sha256(join(folder, name))) === expected ? undefined : `${name} has other contents than were saved`;
  } catch (error) {
    return `${name} cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`;
  }
}
