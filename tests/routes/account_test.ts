/** Balance, usage, prices, credits and limits over HTTP; the pipeline is scripted. */

import { deepEqual, equal, match } from "node:assert/strict";
import { AccountSchema, PriceSchema, UsageSchema } from "../../openapi/account.ts";
import { expectFields, expectProblem } from "./expect_problem.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asJson, startService, type TestService, type TestServiceOptions } from "./test_service.ts";

const least = { reference_images: [Uint8Array.of(1).toBase64()], prompt: "a smile", class_noun: "woman" };
const pixels = testManifest.image_size ** 2;
const steps = testManifest.defaults.num_inference_steps;
const price = Math.ceil(100 * pixels * steps / 1_000_000);

function start(options: Partial<TestServiceOptions> = {}): Promise<TestService> {
  const inference = scriptInference({ generate: (input) => Promise.resolve(outputOf(input)) });
  return startService({ model: () => ({ manifest: testManifest, inference }), ...options });
}

/** `fetch` as another account. */
async function as(service: TestService, sub: string, path: string, init: RequestInit = {}, claims = {}) {
  const headers = new Headers(init.headers);
  headers.set("Authorization", `Bearer ${await service.sign({ sub, ...claims })}`);
  return await service.call(path, { ...init, headers });
}

Deno.test("a generation costs its price, which can be asked for before and is told by day and key after", async () => {
  await using service = await start({ settings: { initialCredit: 5000 } });
  const asked = await as(service, "carol", "/v1/generations/price", asJson({ num_images: 2 }));
  const two = Math.ceil(2 * 100 * pixels * steps / 1_000_000);
  deepEqual(PriceSchema.parse(await asked.json()), { price: two, available: 5000 });
  for (const claims of [{ client_id: "web" }, { azp: "app" }, {}]) {
    const response = await as(service, "carol", "/v1/generations", asJson(least), claims);
    equal(response.status, 200, await response.text());
  }
  const account = AccountSchema.parse(await (await as(service, "carol", "/v1/account")).json());
  deepEqual([account.id, account.available, account.reserved, account.spent], [
    "carol",
    5000 - 3 * price,
    0,
    3 * price,
  ]);
  const usage = UsageSchema.parse(await (await as(service, "carol", "/v1/usage")).json());
  deepEqual(usage.data.map(({ key, credits, images }) => [key, credits, images]), [
    ["app", price, 1],
    ["carol", price, 1],
    ["web", price, 1],
  ]);
  deepEqual(usage.total, { generations: 3, images: 3, steps: 3 * steps, credits: 3 * price });
  const past = await as(service, "carol", "/v1/usage?from=2020-01-01&to=2020-01-31");
  deepEqual(UsageSchema.parse(await past.json()).data, []);
});

Deno.test("a period that is none is refused with its reason", async () => {
  await using service = await start();
  for (
    const [query, pointer, code] of [
      ["from=2026-02-30", "/from", "invalid_value"],
      ["from=0000-01-01&to=0000-01-10", "/from", "out_of_range"],
      ["to=0001-01-05", "/to", "out_of_range"],
      ["end_user=%00", "/end_user", "invalid_value"],
      ["from=2026-02-02&to=2026-02-01", "/from", "out_of_range"],
      ["from=2020-01-01&to=2026-02-01", "/from", "out_of_range"],
      ["since=2020-01-01", "/since", "unknown_field"],
    ] as const
  ) {
    const problem = await expectProblem(await service.call(`/v1/usage?${query}`), code);
    expectFields(problem, query.includes("0000") ? [["/from", code], ["/to", code]] : [[pointer, code]]);
  }
  const slip = await expectProblem(await service.call("/v1/usage?from=2026-1-1"), "invalid_value");
  match(slip.detail ?? "", /must be a date/);
});

Deno.test("who cannot pay is told price and balance, and pays nothing", async () => {
  await using service = await start({ settings: { initialCredit: price - 1 } });
  const response = await as(service, "dave", "/v1/generations", asJson(least));
  const problem = await expectProblem(response, "insufficient_credits");
  deepEqual(problem.details, { price, available: price - 1 });
  const account = AccountSchema.parse(await (await as(service, "dave", "/v1/account")).json());
  deepEqual([account.available, account.reserved, account.spent], [price - 1, 0, 0]);
});

Deno.test("a generation that fails costs nothing", async () => {
  await using service = await start({
    model: () => ({
      manifest: testManifest,
      inference: scriptInference({ generate: () => Promise.reject(new RangeError("crash")) }),
    }),
    settings: { initialCredit: 5000 },
  });
  await expectProblem(await as(service, "erin", "/v1/generations", asJson(least)), "worker_failed");
  const account = AccountSchema.parse(await (await as(service, "erin", "/v1/account")).json());
  deepEqual([account.available, account.reserved, account.spent], [5000, 0, 0]);
});

Deno.test("the operator gives and takes credits, once a key; nobody else does", async () => {
  await using service = await start({ settings: { initialCredit: 0 } });
  const credits = (body: unknown, key?: string, scope = "accounts:write") => {
    const request = asJson(body);
    const headers = {
      ...request.headers as Record<string, string>,
      ...(key ? { "Idempotency-Key": key } : {}),
    };
    return as(service, "operator", "/v1/accounts/frank/credits", { ...request, headers }, { scope });
  };
  const topUp = { amount: 500, kind: "top_up", note: "invoice 1" };
  for (const _time of [1, 2]) {
    equal(AccountSchema.parse(await (await credits(topUp, "invoice-1")).json()).available, 500);
  }
  await expectProblem(await credits({ ...topUp, amount: 600 }, "invoice-1"), "idempotency_key_reused");
  equal(
    AccountSchema.parse(await (await credits({ amount: -200, kind: "adjustment" })).json()).available,
    300,
  );
  const short = await expectProblem(
    await credits({ amount: -301, kind: "adjustment" }),
    "insufficient_credits",
  );
  equal(short.details?.["available"], 300);
  expectFields(await expectProblem(await credits({ amount: -1, kind: "top_up" }), "out_of_range"), [
    ["/amount", "out_of_range"],
  ]);
  await expectProblem(await credits({ amount: 0.5, kind: "top_up" }), "wrong_type");
  await expectProblem(await credits(topUp, undefined, "generations:write account:read"), "scope_missing");
  equal(AccountSchema.parse(await (await as(service, "frank", "/v1/account")).json()).available, 300);
  const told = service.log.map((line) => JSON.parse(line)).filter(({ account }) => account === "frank");
  deepEqual(told.filter(({ message }) => message === "credits").map(({ amount }) => amount), [500, -200]);
  deepEqual(
    told.filter(({ message }) => message !== "credits").map(({ message }) => message),
    ["credits were given before"],
    "a repeated request is no other credit",
  );
});

Deno.test("requests a minute are counted and told; too many are refused until there is room", async () => {
  await using service = await start({ requestsPerMinute: 3 });
  const remaining: (string | null)[] = [];
  for (let n = 0; n < 3; n++) {
    const response = await as(service, "grace", "/v1/models");
    equal(response.status, 200);
    await response.body?.cancel();
    equal(response.headers.get("RateLimit-Policy"), '"requests";q=3;w=60');
    remaining.push(response.headers.get("RateLimit"));
  }
  deepEqual(remaining.map((text) => /^"requests";r=(\d);t=\d+$/.exec(text ?? "")?.[1]), ["2", "1", "0"]);
  const refused = await as(service, "grace", "/v1/models");
  match(refused.headers.get("Retry-After") ?? "", /^[1-9]\d*$/);
  match(refused.headers.get("RateLimit") ?? "", /^"requests";r=0;t=\d+$/);
  await expectProblem(refused, "rate_limit_exceeded");
  const other = await as(service, "heidi", "/v1/models");
  equal(other.status, 200, "another account has its own minute");
  await other.body?.cancel();
});

Deno.test("generations at once are limited", async () => {
  const release = Promise.withResolvers<void>();
  const inference = scriptInference({
    generate: async (input) => {
      await release.promise;
      return outputOf(input);
    },
  });
  await using service = await start({
    model: () => ({ manifest: testManifest, inference }),
    settings: { mostAtOnce: 2 },
  });
  const ask = () => {
    const request = asJson(least);
    const headers = { ...request.headers as Record<string, string>, Prefer: "respond-async" };
    return as(service, "ivan", "/v1/generations", { ...request, headers });
  };
  for (let n = 0; n < 2; n++) {
    const response = await ask();
    equal(response.status, 202);
    await response.body?.cancel();
  }
  const problem = await expectProblem(await ask(), "too_many_generations");
  deepEqual(problem.details, { limit: 2 });
  release.resolve();
});

Deno.test("without its database the service says so, and goes on with what needs none", async () => {
  await using service = await start({ jobs: false });
  await expectProblem(await service.call("/v1/generations", asJson(least)), "store_unavailable");
  await expectProblem(await service.call("/v1/account"), "store_unavailable");
  await expectProblem(await service.call("/readyz"), "store_unavailable");
  for (const path of ["/healthz", "/v1/models"]) {
    const response = await service.call(path);
    equal(response.status, 200, path);
    await response.body?.cancel();
  }
});
