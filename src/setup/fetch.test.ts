import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { fakeOutput, fakePython, libtorchFiles, prefixed, temporaryFolder, zipOf } from "../../tests/setup/fakes.js";
import { fetchLibtorch } from "./fetch.js";
import { nothingWorked } from "./setup.js";

let folder: string;
let cache: string;
let env: NodeJS.ProcessEnv;
let server: Server;
let served: Buffer | undefined;
let requests: (string | undefined)[];
let url: string;

beforeEach(async () => {
  folder = temporaryFolder();
  cache = join(folder, "cache/libtorch");
  env = { PATH: `${join(folder, "bin")}:/usr/bin:/bin`, SLIMTUNE_CACHE: join(folder, "cache") };
  mkdirSync(join(folder, "bin"));
  for (const name of ["python3", "python"]) fakePython(join(folder, "bin", name), { torch: null }); // hide the real ones
  served = undefined;
  requests = [];
  server = createServer((request, response) => {
    requests.push(request.headers.range);
    if (!served) return response.writeHead(404).end();
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const range = { "content-range": `bytes ${start}-${served.length - 1}/${served.length}` };
    response.writeHead(start ? 206 : 200, {
      etag: '"it"',
      "content-length": served.length - start,
      ...(start ? range : {}),
    });
    response.end(served.subarray(start));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/libtorch-2.13.0%2Bcpu.zip`;
  return () => {
    server.close();
    rmSync(folder, { recursive: true });
  };
});

const zip = (version = "2.13.0") => zipOf(prefixed("libtorch", libtorchFiles(version, `${version}+cpu`, "zip")));
const wheelFiles = (label: string, requires = "") => ({
  ...prefixed("torch", libtorchFiles("2.13.0", label)),
  "torch/nn/functional.py": "python, which is not needed",
  [`torch-${label}.dist-info/METADATA`]: `Name: torch\nRequires-Dist: filelock\n${requires}`,
});
const fetchIt = (variant = "cpu", sha256?: string) =>
  fetchLibtorch({ variant, env, zip: { url, sha256 }, out: fakeOutput() });

/** A pip that hands out wheels: torch first, at the second call the libraries of CUDA; its arguments go to a file. */
function pipWith(torch: Record<string, string>, cuda?: Record<string, string>): void {
  writeFileSync(join(folder, "torch.whl"), zipOf(torch));
  if (cuda) writeFileSync(join(folder, "cuda.whl"), zipOf(cuda));
  const pip = `echo "$@" >> ${folder}/pip.log
    case "$*" in *torch==2.13.0*) cp ${folder}/torch.whl "$dest/torch-2.13.0-cp312.whl";; *) cp ${folder}/cuda.whl "$dest/";; esac`;
  fakePython(join(folder, "bin/python3"), { torch: null, pip });
}

test("the zip is fetched, unpacked and found; a second time it is simply there", async () => {
  served = zip();
  const { found, attempts } = await fetchIt();
  expect(found).toEqual({
    libtorch: { root: join(cache, "2.13.0-cpu/libtorch"), version: "2.13.0", variant: "cpu" },
    how: url,
  });
  expect(attempts).toEqual([]);
  expect(readdirSync(cache)).toEqual(["2.13.0-cpu"]);
  expect((await fetchIt()).found?.how).toBe("cache");
  expect(requests).toHaveLength(1);
});

test("an interrupted zip is continued, and other leftovers are removed", async () => {
  served = zip();
  mkdirSync(join(cache, "unfinished/tree/torch"), { recursive: true });
  writeFileSync(join(cache, "libtorch-2.12.0+cpu.zip.partial"), "of another version");
  writeFileSync(join(cache, "libtorch-2.13.0+cpu.zip.partial"), served.subarray(0, 100));
  writeFileSync(join(cache, "libtorch-2.13.0+cpu.zip.partial.json"), JSON.stringify({ url, validator: '"it"' }));
  expect((await fetchIt()).found).toBeDefined();
  expect(requests).toEqual(["bytes=100-"]);
  expect(readdirSync(cache)).toEqual(["2.13.0-cpu"]);
});

test("a folder that is not complete is replaced", async () => {
  served = zip();
  mkdirSync(join(cache, "2.13.0-cpu/torch/lib"), { recursive: true });
  writeFileSync(join(cache, "2.13.0-cpu/torch/lib/libtorch_cpu.so"), "half");
  expect((await fetchIt()).found?.libtorch.root).toBe(join(cache, "2.13.0-cpu/libtorch"));
  expect(readdirSync(join(cache, "2.13.0-cpu"))).toEqual(["libtorch"]);
});

describe("pip takes over", () => {
  test("when the zip is refused; only what is LibTorch is kept of the wheel", async () => {
    pipWith(wheelFiles("2.13.0+cpu"));
    const { found, attempts } = await fetchIt();
    expect(attempts).toEqual([{ where: url, reason: "HTTP 404 Not Found" }]);
    expect(found?.how).toBe("python3 -m pip download --no-deps torch==2.13.0");
    expect(found?.libtorch).toEqual({ root: join(cache, "2.13.0-cpu/torch"), version: "2.13.0", variant: "cpu" });
    expect(readdirSync(cache)).toEqual(["2.13.0-cpu"]);
    expect(existsSync(join(found!.libtorch.root, "nn"))).toBe(false);
  });

  test.each([
    ["damaged", () => Buffer.concat([Buffer.from("junk"), zip().subarray(9)]), /./],
    ["of another version", () => zip("2.12.0"), /it is version 2\.12\.0, not 2\.13\.0/],
    ["without libraries", () => zipOf({ "libtorch/README": "x" }), /has no lib\/libtorch_cpu/],
  ])("when the zip is %s", async (_name, make, reason) => {
    served = make();
    pipWith(wheelFiles("2.13.0+cpu"));
    const { found, attempts } = await fetchIt();
    expect(attempts).toMatchObject([{ where: url, reason: expect.stringMatching(reason) }]);
    expect(found?.libtorch.root).toBe(join(cache, "2.13.0-cpu/torch"));
  });

  const requires =
    'Requires-Dist: cuda-toolkit[cublas,cudart,cupti]==13.0.3; platform_system == "Linux"\n' +
    'Requires-Dist: nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"\n';
  const cuda = { "nvidia/cu13/lib/libcudart.so.13": "library", "nvidia/cu13/include/cuda.h": "header" };

  test("and of a wheel for CUDA, work on the CPU gets what libtorch_cpu is linked with", async () => {
    pipWith(wheelFiles("2.13.0+cu130", requires), cuda);
    const { found } = await fetchIt("cpu");
    expect(found?.libtorch).toEqual({ root: join(cache, "2.13.0-cpu/torch"), version: "2.13.0", variant: "cpu" });
    expect(existsSync(join(cache, "2.13.0-cpu/nvidia/cu13/lib/libcudart.so.13"))).toBe(true);
    expect(existsSync(join(cache, "2.13.0-cpu/nvidia/cu13/include"))).toBe(false);
    expect(pipLog()).toMatch(/cuda-toolkit\[cudart,cupti\]==13\.0\.3$/);
  });

  test("and work on the GPU gets everything that the wheel names", async () => {
    pipWith(wheelFiles("2.13.0+cu130", requires), cuda);
    const { found } = await fetchIt("cu130");
    expect(found?.libtorch).toEqual({ root: join(cache, "2.13.0-cu130/torch"), version: "2.13.0", variant: "cu130" });
    expect(pipLog()).toMatch(/cuda-toolkit\[cublas,cudart,cupti\]==13\.0\.3 nvidia-cudnn-cu13==9\.20\.0\.48$/);
  });

  test("but not with another CUDA than the one that is asked for", async () => {
    pipWith(wheelFiles("2.13.0+cu130", requires), cuda);
    const { found, attempts } = await fetchIt("cu126");
    expect(found).toBeUndefined();
    expect(attempts.at(-1)?.reason).toMatch(/is the cu130 variant, and cu126 is asked for/);
    expect(readdirSync(cache)).toEqual([]);
  });
});

test("when nothing works, the error says what was tried, each with its reason, and what to type", async () => {
  const pip = 'echo "noise"; echo "ERROR: No matching distribution found for torch==2.13.0" >&2; exit 1';
  fakePython(join(folder, "bin/python3"), { torch: null, pip });
  const { found, attempts } = await fetchIt();
  expect(found).toBeUndefined();
  expect(readdirSync(cache)).toEqual([]);
  const before = [{ where: "python3", reason: "it has no torch package" }];
  expect(nothingWorked([...before, ...attempts], "cpu", { url }, cache).message).toBe(
    `LibTorch 2.11 to 2.14 (cpu) was not found, and 2.13.0 could not be fetched. Tried:
  python3: it has no torch package
  ${url}: HTTP 404 Not Found
  python3 -m pip download --no-deps torch==2.13.0: No matching distribution found for torch==2.13.0
What to type, once the network answers:
    npx slimtune setup
  or with a Python whose pip works:
    python3 -m pip install torch==2.13.0 && npx slimtune setup
  or, on any machine, unpack this file and name the folder:
    ${url}
    npx slimtune setup --libtorch DIR
Fetched files are kept in ${cache} (set SLIMTUNE_CACHE to move it).`,
  );
});

test("no pip anywhere is said, for each Python, with how to install it", async () => {
  const { attempts } = await fetchIt();
  expect(attempts.at(-1)?.reason).toMatch(
    /^no pip \(python3: python: No module named pip; python: .*apt-get install python3-pip/s,
  );
});

function pipLog(): string {
  return readFileSync(join(folder, "pip.log"), "utf8").trim();
}
