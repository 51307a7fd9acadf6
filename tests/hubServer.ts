import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A file as the hub would store it: large ones (`lfs`) are served by another host, behind a redirect. */
export interface HubFile {
  content: Buffer;
  lfs?: boolean;
}

export interface HubRepo {
  kind: "models" | "datasets";
  id: string;
  files: Record<string, HubFile>;
  /** Needs this token; without it the answer is 401, as for a repository that does not exist. */
  token?: string;
  gated?: boolean;
}

interface Request {
  host: "hub" | "cdn";
  method: string;
  path: string;
  authorization?: string;
  range?: string;
}

/** What a test wants to go wrong with the next transfers of a path: the response is all the hook's. */
export type Sabotage = (response: ServerResponse, body: Buffer) => void;

const sha = (algorithm: string, ...parts: (string | Buffer)[]) => {
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
export const gitHash = (content: Buffer) => sha("sha1", `blob ${content.length}\0`, content);
export const sha256 = (content: Buffer) => sha("sha256", content);
const hashOf = ({ content, lfs }: HubFile) => (lfs ? sha256(content) : gitHash(content));

/** A server on 127.0.0.1 that speaks the part of the hub's API that a download uses, with a second one as its CDN. */
export class HubServer {
  repos: HubRepo[] = [];
  requests: Request[] = [];
  sabotage = new Map<string, Sabotage[]>();
  /** Answers everything with this status. */
  broken?: number;
  /** Entries per page of a listing. */
  pageSize = 1000;
  private hub!: Server;
  private cdn!: Server;

  async start(): Promise<void> {
    this.hub = createServer((request, response) => this.answer(request, response));
    this.cdn = createServer((request, response) => this.answerCdn(request, response));
    for (const server of [this.hub, this.cdn]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.hub, this.cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  private static address(server: Server): string {
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  get url(): string {
    return HubServer.address(this.hub);
  }

  commitOf(repo: HubRepo): string {
    const files = Object.entries(repo.files).map(([path, file]) => `${path} ${hashOf(file)}`);
    return sha("sha1", repo.id, ...files);
  }

  /** How often a file's bytes were asked for. */
  transfers(path: string): number {
    return this.requests.filter((r) => r.path.endsWith(path) && r.range !== "bytes=0-0").length;
  }

  private note(host: Request["host"], request: IncomingMessage, path: string): void {
    const { authorization, range } = request.headers;
    this.requests.push({ host, method: request.method ?? "", path, authorization, range });
  }

  private fail(response: ServerResponse, status: number, error: string, code = ""): void {
    response.writeHead(status, { "content-type": "application/json", "x-error-code": code, "x-error-message": error });
    response.end(JSON.stringify({ error }));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", this.url);
    const path = decodeURIComponent(url.pathname);
    this.note("hub", request, path);
    if (this.broken !== undefined) {
      this.fail(response, this.broken, "the hub is ill");
      return;
    }
    for (const repo of this.repos) {
      const api = `/api/${repo.kind}/${repo.id}/`;
      const resolve = `/${repo.kind === "datasets" ? "datasets/" : ""}${repo.id}/resolve/`;
      const rest = [api, resolve].map((prefix) => (path.startsWith(prefix) ? path.slice(prefix.length) : undefined));
      if (rest[0] === undefined && rest[1] === undefined) continue;
      if (repo.token !== undefined && request.headers.authorization !== `Bearer ${repo.token}`) break;
      if (repo.gated) {
        this.fail(response, 403, "Access to this repository is restricted", "GatedRepo");
        return;
      }
      const commit = this.commitOf(repo);
      if (rest[0]?.startsWith("revision/")) {
        if (!["main", "v1", commit].includes(rest[0].slice("revision/".length))) {
          this.fail(response, 404, "Invalid rev id", "RevisionNotFound");
          return;
        }
        const info = { _id: "1", id: repo.id, sha: commit, private: false, gated: false, downloads: 0, likes: 0 };
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify({ ...info, lastModified: "2026-01-01T00:00:00.000Z" }));
        return;
      }
      if (rest[0] === `tree/${commit}`) {
        this.list(repo, url, response);
        return;
      }
      const name = rest[1]?.slice(commit.length + 1) ?? "";
      const file = rest[1]?.startsWith(`${commit}/`) ? repo.files[name] : undefined;
      if (file === undefined) {
        this.fail(response, 404, "Entry not found", "EntryNotFound");
        return;
      }
      response.setHeader("x-repo-commit", commit);
      response.setHeader("etag", `"${gitHash(file.content)}"`);
      if (!file.lfs) {
        this.send(name, file.content, request, response);
        return;
      }
      response.writeHead(302, {
        location: `${HubServer.address(this.cdn)}/${repo.kind}/${repo.id}/${name}`,
        "x-linked-etag": `"${sha256(file.content)}"`,
        "x-linked-size": file.content.length,
      });
      response.end();
      return;
    }
    this.fail(response, 401, "Repository not found", "RepoNotFound");
  }

  private list(repo: HubRepo, url: URL, response: ServerResponse): void {
    const entries: unknown[] = Object.entries(repo.files).map(([path, file]) => {
      const size = file.content.length;
      const lfs = file.lfs ? { oid: sha256(file.content), size, pointerSize: 134 } : undefined;
      return { type: "file", oid: lfs ? sha("sha1", path) : gitHash(file.content), size, path, lfs };
    });
    entries.unshift({ type: "directory", oid: "0", size: 0, path: "some-folder" });
    const from = Number(url.searchParams.get("cursor") ?? 0);
    const to = from + this.pageSize;
    if (to < entries.length) {
      const next = new URL(url);
      next.searchParams.set("cursor", String(to));
      response.setHeader("link", `<${next.href}>; rel="next"`);
    }
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(entries.slice(from, to)));
  }

  private answerCdn(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url ?? "", "http://x").pathname).slice(1);
    this.note("cdn", request, path);
    const repo = this.repos.find(({ kind, id }) => path.startsWith(`${kind}/${id}/`));
    const name = path.slice(`${repo?.kind}/${repo?.id}/`.length);
    const file = repo?.files[name];
    if (file === undefined) {
      this.fail(response, 404, "no such object");
      return;
    }
    response.setHeader("etag", `"${sha256(file.content)}"`);
    response.setHeader("x-cache", "Hit from cloudfront"); // makes the client ask this host directly the next time
    this.send(name, file.content, request, response);
  }

  private send(name: string, content: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const [from, to] = range ? [Number(range[1]), Number(range[2]) + 1] : [0, content.length];
    const body = content.subarray(from, to);
    if (range) response.setHeader("content-range", `bytes ${from}-${from + body.length - 1}/${content.length}`);
    response.statusCode = range ? 206 : 200;
    const sabotage = request.headers.range === "bytes=0-0" ? undefined : this.sabotage.get(name)?.shift();
    if (sabotage) {
      sabotage(response, body);
      return;
    }
    response.setHeader("content-length", body.length);
    response.end(body);
  }
}
