/** Stand-ins for what set-up finds in the world: LibTorch folders, zip archives, Pythons, a terminal. */
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { crc32, deflateRawSync } from "node:zlib";
import type { Output } from "../../src/support/meter.js";

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "slimtune-setup-"));
}

const EXTENSION = process.platform === "darwin" ? "dylib" : "so";

/** The files by which a LibTorch is recognised. `label`: what `version.py` or `build-version` say. */
export function libtorchFiles(
  version: string,
  label = `${version}+cpu`,
  layout: "wheel" | "zip" = "wheel",
): Record<string, string> {
  const [major, minor, patch] = version.split(".");
  const files: Record<string, string> = {
    [`lib/libtorch_cpu.${EXTENSION}`]: "library",
    [`lib/libc10.${EXTENSION}`]: "library",
    "include/ATen/core/dispatch/Dispatcher.h": "header",
    "include/torch/csrc/api/include/torch/version.h": "#include <torch/headeronly/version.h>",
    "include/torch/headeronly/version.h": `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`,
  };
  if (layout === "wheel") files["version.py"] = `__version__ = '${label}'\ncuda: Optional[str] = None\n`;
  else files["build-version"] = `${label}\n`;
  if (/\+cu/.test(label)) files[`lib/libtorch_cuda.${EXTENSION}`] = "library";
  return files;
}

export function writeTree(root: string, files: Record<string, string>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

export function prefixed(prefix: string, files: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([path, text]) => [`${prefix}/${path}`, text]));
}

export interface ZipEntry {
  path: string;
  text: string;
  /** Unix mode with the file type; default: a regular file. */
  mode?: number;
  /** Default: the right one. */
  crc?: number;
}

/** A zip archive, also one that no honest tool would write. */
export function makeZip(entries: ZipEntry[]): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const { path, text, mode = 0o100644, crc } of entries) {
    const name = Buffer.from(path);
    const plain = Buffer.from(text);
    const data = deflateRawSync(plain);
    const common = Buffer.alloc(26); // from "version needed" to "extra length", the same in both headers
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x0800, 2); // UTF-8 names
    common.writeUInt16LE(8, 4); // deflate
    common.writeUInt32LE(crc ?? crc32(plain), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(plain.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), common, name, data]);
    const rest = Buffer.alloc(14); // from "comment length" to "offset of the local header"
    rest.writeUInt32LE((mode << 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    central.push(Buffer.from("PK\x01\x02\x14\x03", "latin1"), common, rest, name);
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0, "latin1");
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}

export function zipOf(files: Record<string, string>): Buffer {
  return makeZip(Object.entries(files).map(([path, text]) => ({ path, text })));
}

export function writeScript(file: string, body: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
}

/** A Python that answers where its torch is, and whose pip runs `pip` (shell; the target folder is $dest). */
export function fakePython(file: string, answer: { torch: string | null; pip?: string }): void {
  const reply = JSON.stringify({ executable: file, version: "3.12.1", prefix: file, torch: answer.torch });
  const pip = answer.pip
    ? `if [ "$3" = --version ]; then echo "pip 24.0 from /somewhere (python 3.12)"; exit 0; fi
       while [ "$1" != --dest ]; do shift; done; dest="$2"; ${answer.pip}`
    : 'echo "python: No module named pip" >&2; exit 1';
  writeScript(file, `if [ "$1" = -c ]; then echo '${reply}'; exit 0; fi\n${pip}`);
}

/** Collects what would be shown. */
export function fakeOutput(isTTY = false): Output & { text: string } {
  return {
    text: "",
    isTTY,
    columns: 80,
    write(part: string) {
      this.text += part;
    },
  };
}
