/** Webhook endpoints and messages over HTTP. */

import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { mostPending } from "../../jobs/webhooks/announce.ts";
import {
  WebhookEndpointListSchema,
  WebhookMessageListSchema,
  WebhookSecretSchema,
} from "../../openapi/webhook.ts";
import { fillBacklog } from "../jobs/webhooks_receiver.ts";
import { expectFields, expectProblem } from "./expect_problem.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asJson, startService } from "./test_service.ts";

Deno.test("endpoints are added, listed, given new secrets and removed; messages are listed and repeated", async () => {
  const inference = scriptInference({ generate: (input) => Promise.resolve(outputOf(input)) });
  await using service = await startService({ model: () => ({ manifest: testManifest, inference }) });
  const add = (url: string) => service.call("/v1/webhook_endpoints", asJson({ url }));
  const added = WebhookSecretSchema.parse(await (await add("https://example.com/hook")).json());
  match(added.secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
  const list = async () =>
    WebhookEndpointListSchema.parse(await (await service.call("/v1/webhook_endpoints")).json()).data;
  const { secret: _secret, ...shown } = added;
  deepEqual(await list(), [shown]);
  const rotate = `/v1/webhook_endpoints/${added.id}/rotate_secret`;
  const renewed = WebhookSecretSchema.parse(await (await service.call(rotate, { method: "POST" })).json());
  notEqual(renewed.secret, added.secret);

  const request = { reference_images: [Uint8Array.of(1).toBase64()], prompt: "a smile", class_noun: "woman" };
  const generation = await (await service.call("/v1/generations", asJson(request))).json();
  const messages = async () =>
    WebhookMessageListSchema.parse(await (await service.call("/v1/webhook_messages")).json()).data;
  const [message] = await messages();
  deepEqual([message?.endpoint_id, message?.type, message?.state], [
    added.id,
    "generation.succeeded",
    "pending",
  ]);
  equal(generation.status, "succeeded");
  const replayed = await service.call(`/v1/webhook_messages/${message?.id}/replay`, { method: "POST" });
  equal((await replayed.json()).id, message?.id);

  const listed = async (query: string) => {
    const answer = await service.call(`/v1/webhook_messages?${query}`);
    return WebhookMessageListSchema.parse(await answer.json()).data.map(({ id }) => id);
  };
  deepEqual(await listed("state=pending"), [message?.id]);
  deepEqual([await listed("state=failed"), await listed(`before=${message?.id}`)], [[], []]);
  expectFields(await expectProblem(await service.call("/v1/webhook_messages?state=gone"), "invalid_value"), [
    ["/state", "invalid_value"],
  ]);

  await service.room.store.queries.updateTable("webhook_messages").set({ state: "failed" }).execute();
  await fillBacklog(service.room, "tester", added.id, mostPending);
  const sooner = await service.call(`/v1/webhook_messages/${message?.id}/replay`, { method: "POST" });
  equal((await expectProblem(sooner, "rate_limit_exceeded")).details?.retry_after_seconds, 60);

  const bob = { Authorization: `Bearer ${await service.sign({ sub: "bob" })}` };
  for (
    const [method, path] of [
      ["DELETE", `/v1/webhook_endpoints/${added.id}`],
      ["POST", rotate],
      ["POST", `/v1/webhook_messages/${message?.id}/replay`],
    ] as const
  ) {
    await expectProblem(await service.call(path, { method, headers: bob }), "webhook_not_found");
  }
  const removed = await service.call(`/v1/webhook_endpoints/${added.id}`, { method: "DELETE" });
  equal(removed.status, 204);
  deepEqual([await list(), await messages()], [[], []]);
  expectFields(await expectProblem(await add("ftp://example.com"), "webhook_url_refused"), [
    ["/url", "webhook_url_refused"],
  ]);
});

Deno.test("an address is judged however long JSON writes it, and a larger body by no one", async () => {
  await using service = await startService({
    model: () => ({ manifest: testManifest, inference: scriptInference() }),
  });
  const send = (path: string, body: string) =>
    service.call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  // 2000 characters beyond 16 bits, twelve bytes each
  const escaped = `{"url":"${"\\udabe\\udef0".repeat(2000)}"}`;
  await expectProblem(await send("/v1/webhook_endpoints", escaped), "webhook_url_refused");
  const large = JSON.stringify({ url: "x".repeat(70_000) });
  for (const path of ["/v1/webhook_endpoints", "/v1/accounts/alice/credits", "/v1/account/keys"]) {
    await expectProblem(await send(path, large), "body_too_large");
  }
});
