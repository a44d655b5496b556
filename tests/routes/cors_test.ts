/** Pages of other origins, as browsers ask for them. */

import { equal, ok } from "node:assert/strict";
import { expectProblem } from "./expect_problem.ts";
import { scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { startService } from "./test_service.ts";

const model = () => ({ manifest: testManifest, inference: scriptInference() });
const origin = "https://app.example";
const preflight = (from: string) => ({
  method: "OPTIONS",
  headers: {
    Origin: from,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
  },
});

const listOf = (response: Response, name: string) =>
  (response.headers.get(name) ?? "").toLowerCase().split(/, ?/);

Deno.test("without CORS_ORIGINS no other page may call", async () => {
  await using service = await startService({ model });
  const asked = await fetch(`${service.address}/v1/generations`, preflight(origin));
  equal(asked.headers.get("Access-Control-Allow-Origin"), null);
  await expectProblem(asked, "method_not_allowed");
  const answer = await service.call("/v1/models", { headers: { Origin: origin } });
  equal(answer.headers.get("Access-Control-Allow-Origin"), null);
  await answer.body?.cancel();
});

Deno.test("pages of listed origins may call, and read what they need", async () => {
  await using service = await startService({ model, corsOrigins: [origin, "http://localhost:5173"] });
  const asked = await fetch(`${service.address}/v1/generations`, preflight(origin));
  equal(asked.status, 204);
  equal(asked.headers.get("Access-Control-Allow-Origin"), origin);
  equal(asked.headers.get("Access-Control-Allow-Credentials"), null);
  ok(listOf(asked, "Access-Control-Allow-Methods").includes("post"));
  const allowed = listOf(asked, "Access-Control-Allow-Headers");
  for (
    const name of ["authorization", "content-type", "idempotency-key", "last-event-id", "range", "prefer"]
  ) {
    ok(allowed.includes(name), name);
  }
  const answer = await service.call("/v1/models", { headers: { Origin: "http://localhost:5173" } });
  equal(answer.headers.get("Access-Control-Allow-Origin"), "http://localhost:5173");
  ok(listOf(answer, "Vary").includes("origin"));
  const exposed = listOf(answer, "Access-Control-Expose-Headers");
  for (const name of ["location", "ratelimit", "retry-after", "etag", "content-range", "x-request-id"]) {
    ok(exposed.includes(name), name);
  }
  await answer.body?.cancel();
  const refused = await fetch(`${service.address}/v1/models`, { headers: { Origin: origin } });
  equal(refused.headers.get("Access-Control-Allow-Origin"), origin, "a page may read why it was refused");
  await expectProblem(refused, "token_missing");
  const other = await service.call("/v1/models", { headers: { Origin: "https://other.example" } });
  equal(other.headers.get("Access-Control-Allow-Origin"), null);
  await other.body?.cancel();
  const probe = await fetch(`${service.address}/healthz`, { headers: { Origin: origin } });
  equal(probe.headers.get("Access-Control-Allow-Origin"), null);
  await probe.body?.cancel();
});
