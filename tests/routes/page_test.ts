import { equal, match, notEqual, ok } from "node:assert/strict";
import { createApp } from "../../routes/app.ts";
import { createLogger } from "../../routes/logger.ts";
import { accountTokenIssuer } from "../../routes/tokens/verify_account_token.ts";
import { developmentTokenPath, pageScopes } from "../../routes/development_token.ts";

const app = createApp({
  model: () => undefined,
  jobs: () => undefined,
  metrics: { contentType: "text/plain", metrics: () => Promise.resolve("") },
  verifyToken: () => Promise.reject(new Error("not asked")),
  accountTokens: {
    issuer: accountTokenIssuer,
    audience: "test",
    algorithms: ["ES256"],
    clockToleranceSeconds: 0,
  },
  signPageToken: (scope) => Promise.resolve(`signed for ${scope}`),
  maxBodyBytes: 1024,
  log: createLogger({ level: "error", write: () => {} }),
});

const get = (path: string, headers: Record<string, string> = {}) =>
  app.request(`http://127.0.0.1:8080${path}`, { headers });

Deno.test("the page comes with a policy that allows nothing inline and nothing from elsewhere", async () => {
  const response = await get("/");
  equal(response.status, 200);
  match(response.headers.get("Content-Type")!, /^text\/html/);
  const policy = response.headers.get("Content-Security-Policy")!;
  match(policy, /default-src 'none'/);
  match(policy, /script-src 'self'(;|$)/);
  match(policy, /style-src 'self'(;|$)/);
  match(policy, /frame-ancestors 'none'/);
  ok(!/unsafe|https?:|\*/.test(policy), policy);
  const html = await response.text();
  ok(!/\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)|\{version\}/.test(html), "nothing inline");
  for (const [, path] of html.matchAll(/(?:src|href)="(\/(?:web|manifest)[^"]*)"/g)) {
    equal((await get(path!)).status, 200, path);
  }
});

Deno.test("files are compressed, cached for ever under an address of this version, and compared by ETag", async () => {
  const [path] = /\/web\/[0-9a-f]{16}\/app\.js/.exec(await (await get("/")).text())!;
  const plain = await get(path!);
  const packed = await get(path!, { "Accept-Encoding": "br, gzip" });
  match(plain.headers.get("Cache-Control")!, /immutable/);
  match(plain.headers.get("Content-Type")!, /^text\/javascript/);
  equal(plain.headers.get("Content-Encoding"), null);
  equal(packed.headers.get("Content-Encoding"), "gzip");
  equal(packed.headers.get("Vary"), "Accept-Encoding");
  const unpacked = packed.body!.pipeThrough(new DecompressionStream("gzip"));
  equal(await new Response(unpacked).text(), await plain.text());
  const tag = packed.headers.get("ETag")!;
  notEqual(tag, plain.headers.get("ETag"));
  const known = await get(path!, { "Accept-Encoding": "gzip", "If-None-Match": `"other", ${tag}` });
  equal(known.status, 304);
  equal((await get(path!, { "If-None-Match": tag })).status, 200, "another encoding is another file");
  equal((await get(path!.replace(/[0-9a-f]{16}/, "0".repeat(16)))).status, 404);
  equal((await get("/web/../main.ts")).status, 404);
});

Deno.test("manifest and service worker name files that exist", async () => {
  const manifest = await (await get("/manifest.webmanifest")).json();
  ok(manifest.icons.length >= 3);
  for (const { src } of manifest.icons) equal((await get(src)).status, 200, src);
  const worker = await (await get("/service_worker.js")).text();
  const [, list] = /FILES = "([^"]*)"/.exec(worker)!;
  for (const path of list!.split(" ")) equal((await get(path)).status, 200, path);
  ok(list!.split(" ").length > 8);
});

const own = {
  "Host": "127.0.0.1:8080",
  "Origin": "http://127.0.0.1:8080",
  "Sec-Fetch-Site": "same-origin",
};

const askToken = (headers: Record<string, string>) =>
  app.request(new Request(`http://${headers["Host"]}${developmentTokenPath}`, { method: "POST", headers }));

Deno.test("the development token is for the local page alone", async () => {
  const given = await askToken(own);
  equal(given.status, 200);
  equal(given.headers.get("Cache-Control"), "no-store");
  equal((await given.json()).token, `signed for ${pageScopes}`);
  equal((await askToken({ ...own, Host: "localhost:1", Origin: "http://localhost:1" })).status, 200);
  const refused: Record<string, Record<string, string>> = {
    "another site": { ...own, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site" },
    "another local port": { ...own, "Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site" },
    "a name that points here": { ...own, "Host": "evil.example:8080", "Origin": "http://evil.example:8080" },
    "a look-alike": { ...own, "Host": "localhost.evil.example", "Origin": "http://localhost.evil.example" },
    "no origin": { "Host": own.Host, "Sec-Fetch-Site": "same-origin" },
    "no Sec-Fetch-Site": { "Host": own.Host, "Origin": own.Origin },
    "a sandboxed frame": { ...own, "Origin": "null" },
    "behind a proxy": { ...own, "X-Forwarded-For": "203.0.113.7" },
  };
  for (const [name, headers] of Object.entries(refused)) {
    const response = await askToken(headers);
    equal(response.status, 404, name);
    ok(!(await response.text()).includes("signed for"), name);
  }
  ok(!/accounts|webhooks/.test(pageScopes));
});
