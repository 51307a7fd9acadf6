import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { resolveWeights } from "../src/files/weights.js";
import { type HubProgress, resolveDataset, resolveModel } from "../src/hub/index.js";
import { UserError } from "../src/support/errors.js";
import { gitHash, type HubFile, type HubRepo, HubServer, type Sabotage, sha256 } from "./hubServer.js";

const TINY = join(import.meta.dirname, "fixtures/tiny-llama-sharded");

let hub: HubServer;
let root: string;
let env: NodeJS.ProcessEnv;
let notices: string[];
let progress: HubProgress[];
const options = (more: { revision?: string; env?: NodeJS.ProcessEnv; split?: string; name?: string } = {}) => ({
  ...more,
  env: { ...env, ...more.env },
  onNotice: (message: string) => void notices.push(message),
  onProgress: (p: HubProgress) => void progress.push(p),
});

beforeEach(async () => {
  hub = new HubServer();
  await hub.start();
  root = await mkdtemp(join(tmpdir(), "slimtune-hub-"));
  env = { HF_HOME: root, HF_ENDPOINT: hub.url };
  notices = [];
  progress = [];
});
afterEach(async () => {
  await hub.stop();
  await rm(root, { recursive: true });
});

const text = (content: string): HubFile => ({ content: Buffer.from(content) });

/** A repository with the fixture's files, and others that must stay where they are. */
async function addTinyLlama(more: Partial<HubRepo> = {}): Promise<HubRepo> {
  const files: Record<string, HubFile> = {
    "README.md": text("# tiny"),
    "modeling.py": text("print('hello')"),
    "pytorch_model.bin": { content: Buffer.from("pickle"), lfs: true },
    "training_args.pt": text("pickle"),
    "onnx/model.onnx": text("onnx"),
    "consolidated.safetensors": { content: Buffer.from("the same again"), lfs: true },
  };
  for (const name of await readdir(TINY)) {
    files[name] = { content: await readFile(join(TINY, name)), lfs: name.endsWith(".safetensors") };
  }
  const repo: HubRepo = { kind: "models", id: "org/tiny-llama", files, ...more };
  hub.repos.push(repo);
  return repo;
}

/** A repository whose only weights are `size` bytes, which need not be a model. */
function addWeights(size: number): Buffer {
  const content = Buffer.from(Array.from({ length: size }, (_, i) => (i * 31) % 251));
  const files = { "config.json": text("{}"), "model.safetensors": { content, lfs: true } };
  hub.repos.push({ kind: "models", id: "one", files });
  return content;
}

async function messageOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).message;
}

describe("resolveModel downloads", () => {
  test("what a model needs and nothing else, into the cache's layout, byte for byte", async () => {
    const repo = await addTinyLlama();
    const folder = await resolveModel("org/tiny-llama", options());
    const commit = hub.commitOf(repo);
    const cache = join(root, "hub/models--org--tiny-llama");
    expect(folder).toBe(join(cache, "snapshots", commit));
    expect((await readdir(folder)).sort()).toEqual((await readdir(TINY)).sort());
    for (const name of await readdir(TINY)) {
      const content = await readFile(join(TINY, name));
      expect(await readFile(join(folder, name)), name).toEqual(content);
      const hash = name.endsWith(".safetensors") ? sha256(content) : gitHash(content);
      expect(await readlink(join(folder, name))).toBe(join("../../blobs", hash));
    }
    expect(await readFile(join(cache, "refs/main"), "utf8")).toBe(commit);
    expect((await readdir(join(cache, "blobs"))).filter((name) => !/^[0-9a-f]+$/.test(name))).toEqual([]);
    expect(hub.requests.filter(({ path }) => /\.(bin|pt|py|onnx|md)$|consolidated/.test(path))).toEqual([]);
    expect((await resolveWeights(folder)).tensors.size).toBe((await resolveWeights(TINY)).tensors.size);

    const shard = "model-00001-of-00004.safetensors";
    const { size } = await stat(join(TINY, shard));
    expect(progress.filter(({ file }) => file === shard).at(-1)).toEqual({ file: shard, received: size, size });
    expect(notices[0]).toMatch(/^Downloading \d+ files .* of org\/tiny-llama to /);
  });

  test("once: later calls transfer nothing, online or offline", async () => {
    const repo = await addTinyLlama();
    const folder = await resolveModel("org/tiny-llama", options());
    notices = [];
    hub.requests = [];
    expect(await resolveModel("org/tiny-llama", options())).toBe(folder);
    expect(hub.requests.filter(({ path }) => path.includes("/resolve/"))).toEqual([]);
    hub.requests = [];
    for (const HF_HUB_OFFLINE of ["1", "true", "YES"]) {
      expect(await resolveModel("org/tiny-llama", options({ env: { HF_HUB_OFFLINE } }))).toBe(folder);
    }
    const commit = hub.commitOf(repo);
    expect(await resolveModel("org/tiny-llama", options({ revision: commit, env: { HF_HUB_OFFLINE: "1" } }))).toBe(
      folder,
    );
    expect(hub.requests).toEqual([]);
    expect(notices).toEqual([]);
  });

  test("only what a new commit changed", async () => {
    const repo = await addTinyLlama();
    const before = await resolveModel("org/tiny-llama", options());
    repo.files["config.json"] = text('{"changed": true}');
    hub.requests = [];
    const after = await resolveModel("org/tiny-llama", options());
    expect(after).not.toBe(before);
    expect(await readFile(join(after, "config.json"), "utf8")).toBe('{"changed": true}');
    expect(new Set(hub.requests.map(({ path }) => path).filter((path) => path.includes("/resolve/"))).size).toBe(1);
    expect(await resolveModel("org/tiny-llama", options({ env: { HF_HUB_OFFLINE: "1" } }))).toBe(after);
  });

  test("the chat templates of their own folder, and nothing else of it", async () => {
    const folders = { "additional_chat_templates/tool_use.jinja": text("{{ tools }}") };
    const files = { "model.safetensors": text("weights"), ...folders };
    const others = { "additional_chat_templates/run.py": text("x"), "additional_chat_templates/a/b.jinja": text("x") };
    hub.repos.push({ kind: "models", id: "chat", files: { ...files, ...others } });
    const folder = await resolveModel("chat", options());
    expect((await readdir(folder)).sort()).toEqual(["additional_chat_templates", "model.safetensors"]);
    expect(await readdir(join(folder, "additional_chat_templates"))).toEqual(["tool_use.jinja"]);
  });

  test("a single file, an adapter, a revision, a listing in pages, an empty file", async () => {
    hub.pageSize = 1;
    const content = Buffer.from("weights");
    const files = {
      "adapter_config.json": text("{}"),
      "adapter_model.safetensors": { content, lfs: true },
      "chat_template.jinja": text(""),
    };
    hub.repos.push({ kind: "models", id: "adapter", files });
    const folder = await resolveModel("adapter", options({ revision: "v1" }));
    expect((await readdir(folder)).sort()).toEqual(Object.keys(files).sort());
    expect(await readFile(join(root, "hub/models--adapter/refs/v1"), "utf8")).toMatch(/^[0-9a-f]{40}$/);
    expect((await stat(join(folder, "chat_template.jinja"))).size).toBe(0);
  });

  test("the token goes to the hub and never to the host it redirects to", async () => {
    await addTinyLlama({ token: "hf_secret" });
    await resolveModel("org/tiny-llama", options({ env: { HF_TOKEN: "hf_secret" } }));
    const sent = (host: string) => new Set(hub.requests.filter((r) => r.host === host).map((r) => r.authorization));
    expect(sent("hub")).toEqual(new Set(["Bearer hf_secret"]));
    expect(sent("cdn")).toEqual(new Set([undefined]));
  });

  test("the token that a login stored, and HF_HUB_CACHE", async () => {
    await addTinyLlama({ token: "hf_stored" });
    await writeFile(join(root, "token"), "hf_stored\n");
    const folder = await resolveModel("org/tiny-llama", options({ env: { HF_HUB_CACHE: join(root, "elsewhere") } }));
    expect(folder.startsWith(join(root, "elsewhere/models--org--tiny-llama/snapshots"))).toBe(true);
  });
});

describe("interruptions", () => {
  const cut =
    (bytes: number): Sabotage =>
    (response, body) => {
      response.setHeader("content-length", body.length);
      response.write(body.subarray(0, bytes), () => setTimeout(() => response.destroy(), 20));
    };

  test("a dropped connection is taken up where it broke", async () => {
    const content = addWeights(200_000);
    hub.sabotage.set("model.safetensors", [cut(70_000), cut(50_000)]);
    const folder = await resolveModel("one", options());
    expect(await readFile(join(folder, "model.safetensors"))).toEqual(content);
    const ranges = hub.requests.filter((r) => r.host === "cdn" && r.range !== "bytes=0-0").map((r) => r.range);
    expect(ranges).toHaveLength(3);
    expect(Number(/^bytes=(\d+)-199999$/.exec(ranges[2] ?? "")?.[1])).toBeGreaterThan(0);
  });

  test("a run that gave up is continued by the next", async () => {
    const content = addWeights(200_000);
    hub.sabotage.set("model.safetensors", Array(4).fill(cut(30_000)));
    expect(await messageOf(resolveModel("one", options()))).toMatch(
      /Cannot get the model one from .*what was downloaded is kept/,
    );
    const blobs = join(root, "hub/models--one/blobs");
    const partial = join(blobs, `${sha256(content)}.incomplete`);
    const kept = (await stat(partial)).size;
    expect(kept).toBeGreaterThan(0);
    expect(await messageOf(resolveModel("one", options({ env: { HF_HUB_OFFLINE: "1" } })))).toMatch(/not in the cache/);
    hub.requests = [];
    const folder = await resolveModel("one", options());
    expect(hub.requests.map(({ range }) => range)).toContain(`bytes=${kept}-199999`);
    expect(await readFile(join(folder, "model.safetensors"))).toEqual(content);
    expect((await readdir(blobs)).filter((name) => name.endsWith(".incomplete"))).toEqual([]);
  });

  test.each([
    ["other bytes", Buffer.alloc(1000)],
    ["more bytes than the file has", Buffer.alloc(300_000)],
    ["the whole file", Buffer.alloc(200_000)],
  ])("a partial file with %s is dropped and the download starts over", async (_, left) => {
    const content = addWeights(200_000);
    const blobs = join(root, "hub/models--one/blobs");
    await mkdir(blobs, { recursive: true });
    await writeFile(join(blobs, `${sha256(content)}.incomplete`), left);
    const folder = await resolveModel("one", options());
    expect(await readFile(join(folder, "model.safetensors"))).toEqual(content);
  });

  test.each<[string, Sabotage]>([
    ["changed bytes", (response, body) => response.end(Buffer.from(body).fill(1, 100, 200))],
    ["too many bytes", (response, body) => response.end(Buffer.concat([body, body]))],
  ])("%s from the server are an error and leave no file", async (_, sabotage) => {
    const content = addWeights(2000);
    hub.sabotage.set("model.safetensors", [sabotage]);
    const message = await messageOf(resolveModel("one", options()));
    expect(message).toMatch(/model\.safetensors of one arrived damaged: it should have 2000 bytes/);
    const cache = join(root, "hub/models--one");
    expect(await readdir(join(cache, "blobs"))).not.toContain(sha256(content));
    await expect(lstat(join(cache, "refs"))).rejects.toThrow(/ENOENT/);
    const folder = await resolveModel("one", options());
    expect(await readFile(join(folder, "model.safetensors"))).toEqual(content);
  });

  test("too few bytes without an error are noticed", async () => {
    const content = addWeights(2000);
    hub.sabotage.set("model.safetensors", [(response, body) => response.end(body.subarray(0, 500))]);
    const folder = await resolveModel("one", options());
    expect(await readFile(join(folder, "model.safetensors"))).toEqual(content);
  });

  test("a cached file of the wrong size is fetched again", async () => {
    const content = addWeights(2000);
    const folder = await resolveModel("one", options());
    await writeFile(join(folder, "model.safetensors"), content.subarray(0, 10));
    const message = await messageOf(resolveModel("one", options({ env: { HF_HUB_OFFLINE: "1" } })));
    expect(message).toMatch(/lacks 1 files of one, for instance model\.safetensors/);
    await resolveModel("one", options());
    expect(await readFile(join(folder, "model.safetensors"))).toEqual(content);
  });

  test("simultaneous calls download once", async () => {
    const content = addWeights(200_000);
    const folders = await Promise.all([1, 2, 3].map(() => resolveModel("one", options())));
    expect(new Set(folders).size).toBe(1);
    expect(await readFile(join(folders[0]!, "model.safetensors"))).toEqual(content);
    expect(hub.requests.filter((r) => r.host === "cdn" && r.range !== "bytes=0-0")).toHaveLength(1);
  });
});

describe("when the hub is not to be had", () => {
  test("a complete cache stands in, with a notice; an incomplete one does not", async () => {
    await addTinyLlama();
    const folder = await resolveModel("org/tiny-llama", options());
    notices = [];
    hub.broken = 503;
    expect(await resolveModel("org/tiny-llama", options())).toBe(folder);
    expect(notices).toEqual([expect.stringMatching(/cannot be reached: using org\/tiny-llama from the cache/)]);
    expect(await messageOf(resolveModel("org/other", options()))).toMatch(
      /Cannot get the model org\/other.*the hub is ill/,
    );
    await hub.stop();
    expect(await resolveModel("org/tiny-llama", options())).toBe(folder);
    const message = await messageOf(resolveModel("org/other", options()));
    expect(message).toMatch(/ECONNREFUSED.*local path.*HF_ENDPOINT/);
    await hub.start();
  });

  test("an answer that is not the hub's, such as a login page", async () => {
    const portal = createServer((_, response) => response.end("<html>log in first</html>"));
    await new Promise<void>((resolve) => portal.listen(0, "127.0.0.1", resolve));
    const HF_ENDPOINT = `http://127.0.0.1:${(portal.address() as AddressInfo).port}/`;
    expect(await messageOf(resolveModel("org/x", options({ env: { HF_ENDPOINT } })))).toMatch(
      /Cannot get the model org\/x/,
    );
    portal.closeAllConnections();
    await new Promise((resolve) => portal.close(resolve));
  });

  test("offline without a cache says so", async () => {
    const message = await messageOf(resolveModel("org/tiny-llama", options({ env: { HF_HUB_OFFLINE: "1" } })));
    expect(message).toMatch(/org\/tiny-llama \(revision main\) is not in the cache .*HF_HUB_OFFLINE/);
    expect(hub.requests).toEqual([]);
  });

  test("a cache that Python filled is used as it is", async () => {
    const commit = "a".repeat(40);
    const repo = join(root, "hub/models--org--python");
    await mkdir(join(repo, "snapshots", commit), { recursive: true });
    await mkdir(join(repo, "refs"));
    await writeFile(join(repo, "refs/main"), commit);
    await writeFile(join(repo, "snapshots", commit, "config.json"), "{}");
    const offline = options({ env: { HF_HUB_OFFLINE: "1" } });
    expect(await messageOf(resolveModel("org/python", offline))).toMatch(/has no model\.safetensors .* in the cache/);
    await writeFile(join(repo, "snapshots", commit, "model.safetensors"), "x");
    expect(await resolveModel("org/python", offline)).toBe(join(repo, "snapshots", commit));
  });
});

describe("clear errors", () => {
  test("unknown, private and gated repositories, unknown revisions", async () => {
    await addTinyLlama();
    const unknown = await messageOf(resolveModel("org/nothing", options()));
    expect(unknown).toMatch(/refuses the model org\/nothing \(status 401\).*set HF_TOKEN to a token/);
    expect(await messageOf(resolveModel("org/tiny-llama", options({ revision: "v9" })))).toMatch(
      /has no model org\/tiny-llama with the revision v9/,
    );
    hub.repos[0]!.gated = true;
    const gated = await messageOf(resolveModel("org/tiny-llama", options({ env: { HF_TOKEN: "hf_x" } })));
    expect(gated).toContain(`accept its terms on ${hub.url}/org/tiny-llama and use an HF_TOKEN`);
  });

  test("only pickles, or a shard that the repository lacks: nothing large is downloaded", async () => {
    const repo = await addTinyLlama();
    delete repo.files["model-00003-of-00004.safetensors"];
    expect(await messageOf(resolveModel("org/tiny-llama", options()))).toMatch(
      /org\/tiny-llama is incomplete in .*1 of 4 files .*"model-00003-of-00004\.safetensors"/,
    );
    delete repo.files["model.safetensors.index.json"];
    expect(await messageOf(resolveModel("org/tiny-llama", options()))).toMatch(
      /It has pytorch_model\.bin.*from_pretrained/,
    );
    expect(hub.requests.filter(({ host }) => host === "cdn")).toEqual([]);
  });

  test.each(["../../etc/x.json", "/etc/x.json", "a\\..\\x.json", "C:x.json"])("a listing with %j", async (path) => {
    await addTinyLlama();
    hub.repos[0]!.files[path] = text("{}");
    expect(await messageOf(resolveModel("org/tiny-llama", options()))).toMatch(/lists a file .* that cannot be used/);
    expect(hub.requests.filter((r) => r.path.includes("/resolve/"))).toEqual([]);
  });

  test("bad settings", async () => {
    const bad = (more: NodeJS.ProcessEnv) => messageOf(resolveModel("org/x", options({ env: more })));
    expect(await bad({ HF_ENDPOINT: "huggingface" })).toMatch(/HF_ENDPOINT is "huggingface"/);
    const token = await bad({ HF_TOKEN: "sk-something" });
    expect(token).toMatch(/HF_TOKEN .* must start with "hf_"/);
    expect(token).not.toContain("something");
    expect(await messageOf(resolveModel("org/x", options({ revision: "../../x" })))).toMatch(
      /revision is "\.\.\/\.\.\/x"/,
    );
  });

  test("a cache that cannot be written", async () => {
    await addTinyLlama();
    await writeFile(join(root, "file"), "");
    const message = await messageOf(
      resolveModel("org/tiny-llama", options({ env: { HF_HUB_CACHE: join(root, "file/x") } })),
    );
    expect(message).toMatch(/Cannot store the model org\/tiny-llama in the cache .*ENOTDIR.*HF_HOME/);
  });
});

describe("local folders", () => {
  test("stay what they are, without any request", async () => {
    expect(await resolveModel(TINY, options())).toBe(TINY);
    expect(hub.requests).toEqual([]);
  });

  test.each(["./none", "../none", "/none/at/all", "a/b/c", "none\\x", "~/none-such-folder", "a/", "C:\\models"])(
    "%j is no hub id",
    async (path) => {
      expect(await messageOf(resolveModel(path, options()))).toMatch(/There is no model folder/);
      expect(hub.requests).toEqual([]);
    },
  );

  test.each(["", "a b", "org/na:me", "org..x/y", "a--b", "-x", "ü"])("%j is neither", async (id) => {
    expect(await messageOf(resolveModel(id, options()))).toMatch(/is neither a local model nor a hub id/);
    expect(hub.requests).toEqual([]);
  });

  test("a file is not a folder", async () => {
    expect(await messageOf(resolveModel(join(TINY, "config.json"), options()))).toMatch(/is a file; give the folder/);
  });
});

describe("resolveDataset", () => {
  const add = (files: Record<string, string>) =>
    hub.repos.push({
      kind: "datasets",
      id: "org/data",
      files: Object.fromEntries(Object.entries(files).map(([path, content]) => [path, text(content)])),
    });

  test("downloads one split, keeps others away, and finds it again offline", async () => {
    add({ "data/train.jsonl": '{"text":"a"}', "data/test.jsonl": '{"text":"b"}', "README.md": "# data" });
    const files = await resolveDataset("org/data", options());
    expect(files.map((file) => file.slice(-16))).toEqual(["data/train.jsonl"]);
    expect(files[0]).toContain("datasets--org--data/snapshots/");
    expect(await readFile(files[0]!, "utf8")).toBe('{"text":"a"}');
    expect(hub.transfers("test.jsonl")).toBe(0);
    const offline = { HF_HUB_OFFLINE: "1" };
    expect(await resolveDataset("org/data", options({ env: offline }))).toEqual(files);
    // The split is known, but was never downloaded.
    const message = await messageOf(resolveDataset("org/data", options({ env: offline, split: "test" })));
    expect(message).toMatch(/lacks 1 files of org\/data, for instance data\/test\.jsonl/);
    expect(await resolveDataset("org/data", options({ split: "test" }))).toHaveLength(1);
  });

  test("follows the card's configurations", async () => {
    const readme = [
      "---",
      "configs:",
      "- config_name: main",
      "  data_files:",
      "  - split: train",
      "    path: main/part-*",
      "- config_name: socratic",
      "  data_files: socratic/*.jsonl",
      "---",
    ].join("\n");
    add({ "README.md": readme, "main/part-1.jsonl": "{}", "main/part-2.jsonl": "{}", "socratic/x.jsonl": "{ }" });
    const names = (files: string[]) => files.map((file) => file.split("/").slice(-2).join("/"));
    expect(names(await resolveDataset("org/data", options({ name: "main" })))).toEqual([
      "main/part-1.jsonl",
      "main/part-2.jsonl",
    ]);
    expect(names(await resolveDataset("org/data", options({ name: "socratic" })))).toEqual(["socratic/x.jsonl"]);
    expect(await messageOf(resolveDataset("org/data", options()))).toMatch(
      /set dataset\.name to one of main, socratic/,
    );
  });

  test("is refused clearly", async () => {
    expect(await messageOf(resolveDataset("org/none", options()))).toMatch(
      /refuses the dataset org\/none.*\/datasets\/org\/none/,
    );
    expect(await messageOf(resolveDataset("./x", options()))).toMatch(
      /"\.\/x" is neither a local dataset nor a hub id/,
    );
  });
});

test("by default progress goes to stderr, and stdout stays empty", async () => {
  await addTinyLlama();
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    vi.spyOn(process[name], "write").mockImplementation((chunk) => {
      written[name] += chunk;
      return true;
    });
  }
  try {
    await resolveModel("org/tiny-llama", { env });
  } finally {
    vi.restoreAllMocks();
  }
  expect(written.stderr).toMatch(/Downloading \d+ files .* of org\/tiny-llama/);
  expect(written.stdout).toBe("");
});
