/** What holds for every address: unknown ones, other methods, headers, probes, the contract and its page. */

import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { formatDocument } from "../../openapi/document.ts";
import { FaceReportSchema } from "../../openapi/face.ts";
import { ModelListSchema } from "../../openapi/model.ts";
import { operations } from "../../openapi/operations.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { delay } from "../delay.ts";
import { expectProblem } from "./expect_problem.ts";
import { oneFace, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asForm, asJson, startService } from "./test_service.ts";

const start = () => startService({ model: () => ({ manifest: testManifest, inference: scriptInference() }) });

Deno.test("an unknown address is a 404, an address under another method a 405 with Allow", async () => {
  await using service = await start();
  for (
    const path of [
      "/v1",
      "/v1/generations/",
      "/v1/generation",
      "/docs/../main.ts",
      "/docs/other.js",
      "/.env",
    ]
  ) {
    await expectProblem(await service.call(path), "not_found");
  }
  for (
    const [method, path, allow] of [
      ["GET", "/v1/generations", "POST"],
      ["DELETE", "/v1/generations", "POST"],
      ["PUT", "/v1/faces", "POST"],
      ["POST", "/v1/models", "GET, HEAD"],
      ["POST", "/healthz", "GET, HEAD"],
      ["PATCH", "/readyz", "GET, HEAD"],
      ["POST", "/openapi.json", "GET, HEAD"],
      ["POST", "/docs", "GET, HEAD"],
      ["POST", "/", "GET, HEAD"],
      ["OPTIONS", "/v1/generations/price", "POST"],
    ] as const
  ) {
    const response = await service.call(path, { method });
    equal(response.headers.get("Allow"), allow, `${method} ${path}`);
    await expectProblem(response, "method_not_allowed");
  }
});

Deno.test("every operation of the contract is served", async () => {
  await using service = await start();
  for (const { method, path } of operations) {
    const response = await fetch(`${service.address}${path}`, { method: method.toUpperCase() });
    ok(![404, 405].includes(response.status), `${method} ${path} answered ${response.status}`);
    await response.body?.cancel();
  }
});

Deno.test("health tells of the process, readiness of the model, and neither needs a token", async () => {
  let phase: "loading" | "ready" | "dead" = "loading";
  await using service = await startService({
    model: () =>
      phase === "loading"
        ? undefined
        : { manifest: testManifest, inference: scriptInference({ ready: phase === "ready" }) },
  });
  const get = (path: string) => fetch(`${service.address}${path}`);
  deepEqual(await (await get("/healthz")).json(), { status: "ok" });
  equal((await expectProblem(await get("/readyz"), "not_ready")).status, 503);
  await expectProblem(await service.call("/v1/models"), "not_ready");
  await expectProblem(await service.call("/v1/generations", asJson({})), "not_ready");
  await expectProblem(await service.call("/v1/faces", asJson({})), "not_ready");
  phase = "ready";
  deepEqual(await (await get("/healthz")).json(), { status: "ok" });
  deepEqual(await (await get("/readyz")).json(), { status: "ready" });
  phase = "dead";
  // a platform restarts what is not healthy, and only that brings a dead worker back
  await expectProblem(await get("/healthz"), "worker_failed");
  await expectProblem(await get("/readyz"), "worker_failed");
});

Deno.test("models are listed with the bundle's own figures", async () => {
  await using service = await startService({
    model: () => ({ manifest: testManifest, inference: scriptInference() }),
    maxBodyBytes: 5000,
  });
  const { data } = ModelListSchema.parse(await (await service.call("/v1/models")).json());
  const [model, ...others] = data;
  equal(others.length, 0);
  equal(model?.id, "test-model");
  equal(model?.license, "none");
  equal(model?.image_size, 64);
  deepEqual(model?.class_nouns, ["man", "woman"]);
  deepEqual(model?.schedulers, [
    "ddim",
    "euler",
    "euler_ancestral",
    "euler_restart",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "unipc",
  ]);
  deepEqual(model?.defaults, {
    negative_prompt: "a painted face",
    num_images: 1,
    output_format: "png",
    num_inference_steps: 17,
    guidance_scale: 2.5,
    identity_guidance_scale: 1.25,
    early_guidance_scale: 3.5,
    early_identity_guidance_scale: null,
    early_guidance_until: 800,
    guidance_rescale: 0.25,
    identity_strength: 0.9,
    pose_variation: 12,
    cache_interval: 1,
    scheduler: "euler",
  });
  equal(model?.limits.max_reference_images, 3);
  deepEqual(model?.limits.cache_interval, { min: 1, max: 10 });
  equal(model?.limits.max_body_bytes, 5000);
});

Deno.test("a face report comes by JSON and by form, with the same bytes judged", async () => {
  const seen: number[][] = [];
  await using service = await startService({
    model: () => ({
      manifest: testManifest,
      inference: scriptInference({
        checkFace: (photo) => {
          seen.push([...photo]);
          return Promise.resolve(oneFace);
        },
      }),
    }),
  });
  const photo = Uint8Array.of(5, 6, 7);
  for (const request of [asJson({ image: photo.toBase64() }), asForm({ image: photo })]) {
    const response = await service.call("/v1/faces", request);
    equal(response.headers.get("Cache-Control"), "no-store");
    const report = FaceReportSchema.parse(await response.json());
    deepEqual(report.faces[0]?.box, { x: 10.1, y: 12, width: 40, height: 50 });
    equal(report.faces[0]?.score, 0.9877);
    deepEqual(report.problems, oneFace.problems);
    equal(report.usable, false);
  }
  deepEqual(seen, [[5, 6, 7], [5, 6, 7]]);
});

Deno.test("an account has sixteen photos checked at a time, and hanging up ends a check", async () => {
  const begun: { readonly end: () => void; readonly signal: AbortSignal | undefined }[] = [];
  await using service = await startService({
    model: () => ({
      manifest: testManifest,
      inference: scriptInference({
        checkFace: (_, signal) => {
          const { promise, resolve, reject } = Promise.withResolvers<typeof oneFace>();
          signal?.addEventListener("abort", () => reject(new PipelineError("canceled", "canceled")));
          begun.push({ end: () => resolve(oneFace), signal });
          return promise;
        },
      }),
    }),
  });
  const request = asJson({ image: Uint8Array.of(5).toBase64() });
  const hangUp = new AbortController();
  const waiting = Array.from({ length: 15 }, () => service.call("/v1/faces", request));
  const left = service.call("/v1/faces", { ...request, signal: hangUp.signal }).catch(() => "hung up");
  while (begun.length < 16) await delay(1);
  const problem = await expectProblem(await service.call("/v1/faces", request), "rate_limit_exceeded");
  deepEqual(problem.details, { limit: 16 });
  hangUp.abort();
  equal(await left, "hung up");
  while (!begun.some(({ signal }) => signal?.aborted)) await delay(1);
  const token = await service.sign({ sub: "somebody else" });
  const other = service.call("/v1/faces", {
    ...request,
    headers: { ...request.headers, Authorization: `Bearer ${token}` },
  });
  while (begun.length < 17) await delay(1);
  for (const { end } of begun) end();
  for (const response of await Promise.all([...waiting, other])) {
    equal(response.status, 200);
    await response.body?.cancel();
  }
});

Deno.test("a Host that is none has no addresses", async () => {
  await using service = await start();
  const { hostname, port } = new URL(service.address);
  for (const host of ["a b", "@@@"]) {
    using connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(
      new TextEncoder().encode(`GET /healthz HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
    );
    const answer = await new Response(connection.readable).text();
    ok(/^HTTP\/1.1 404 /.test(answer), answer.slice(0, 200));
  }
  ok(!service.log.some((line) => line.includes('"error"')));
});

Deno.test("a request id is kept when it is well formed, and made otherwise", async () => {
  await using service = await start();
  const idFor = async (sent?: string) => {
    const response = await service.call(
      "/healthz",
      sent === undefined ? {} : { headers: { "X-Request-Id": sent } },
    );
    await response.body?.cancel();
    return response.headers.get("X-Request-Id");
  };
  equal(await idFor("trace-7_a"), "trace-7_a");
  for (const bad of [undefined, "a b", "x".repeat(200), '"}{']) {
    const made = await idFor(bad);
    match(made ?? "", /^[0-9a-f-]{36}$/);
    notEqual(made, bad);
  }
});

Deno.test("every answer carries the security headers", async () => {
  await using service = await start();
  for (const path of ["/healthz", "/nowhere", "/v1/models", "/openapi.json"]) {
    const response = await service.call(path);
    await response.body?.cancel();
    equal(response.headers.get("X-Content-Type-Options"), "nosniff");
    equal(response.headers.get("Content-Security-Policy"), "default-src 'none'; frame-ancestors 'none'");
    equal(response.headers.get("X-Frame-Options"), "DENY");
    equal(response.headers.get("Referrer-Policy"), "no-referrer");
    match(response.headers.get("Strict-Transport-Security") ?? "", /max-age=\d{7,}/);
  }
});

Deno.test("the access log: one JSON line a request, with nothing the client could have put into an address", async () => {
  await using service = await start();
  for (const path of ["/healthz?access_token=secret-a", "/secret-b", "/v1/models"]) {
    await (await service.call(path)).body?.cancel();
  }
  const lines = service.log.map((line) => JSON.parse(line));
  deepEqual(lines.map(({ message, method, route, status, code }) => [message, method, route, status, code]), [
    ["request", "GET", "/healthz", 200, undefined],
    ["request", "GET", "unknown", 404, "not_found"],
    ["request", "GET", "/v1/models", 200, undefined],
  ]);
  equal(lines[2]?.subject, "tester");
  ok(lines.every(({ request_id, milliseconds }) => typeof request_id === "string" && milliseconds >= 0));
  ok(!service.log.join("\n").includes("secret"));
});

Deno.test("GET /openapi.json is the contract that is checked in", async () => {
  await using service = await start();
  const response = await fetch(`${service.address}/openapi.json`);
  match(response.headers.get("Content-Type") ?? "", /^application\/json/);
  equal(await response.text(), formatDocument());
});

/** Paths of what this process has open, where the system tells. */
async function openFiles(): Promise<string> {
  if (Deno.build.os !== "linux") return "";
  // Deno lets nobody but `--allow-all` read there
  const { stdout } = await new Deno.Command("ls", { args: ["-l", `/proc/${Deno.pid}/fd`] }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("GET /docs needs no other host, and runs no script but its own", async () => {
  await using service = await start();
  const response = await fetch(`${service.address}/docs`);
  equal(response.status, 200);
  const page = await response.text();
  const policy = response.headers.get("Content-Security-Policy") ?? "";
  const nonce = /script-src 'nonce-([^']+)'/.exec(policy)?.[1];
  ok(nonce);
  match(policy, /default-src 'none'/);
  ok(!/script-src[^;]*unsafe|https?:/.test(policy), policy);
  const scripts = [...page.matchAll(/<script\b[^>]*>/g)].map(([tag]) => tag);
  ok(scripts.length > 0 && scripts.every((tag) => tag.includes(`nonce="${nonce}"`)), scripts.join());
  const addresses = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, address]) => address);
  deepEqual(addresses, ["/docs/scalar.js"]);
  const again = await fetch(`${service.address}/docs`);
  notEqual(again.headers.get("Content-Security-Policy"), policy, "a nonce is used once");
  await again.body?.cancel();
  const script = await fetch(`${service.address}/docs/scalar.js`);
  equal(script.status, 200);
  match(script.headers.get("Content-Type") ?? "", /^text\/javascript/);
  ok((await script.text()).includes("createApiReference"));
  equal((await fetch(`${service.address}/docs/scalar.js`, { method: "HEAD" })).status, 200);
  await delay(20);
  ok(!(await openFiles()).includes("standalone.js"), "a file stays open");
});

Deno.test("U+0000, which no name holds, is not looked for", async () => {
  await using service = await start();
  for (
    const path of ["/v1/generations/%00", "/v1/generations/a%00/events", "/v1/webhook_messages/%00/replay"]
  ) {
    await expectProblem(await service.call(path), "not_found");
  }
  for (
    const [path, body] of [
      ["/v1/accounts/a/credits", { amount: 1, kind: "top_up", note: "a\0b" }],
      ["/v1/webhook_endpoints", { url: "https://a.example/\0" }],
    ] as const
  ) await expectProblem(await service.call(path, asJson(body)), "invalid_value");
});
