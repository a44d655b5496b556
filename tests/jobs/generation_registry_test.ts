import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { GenerationEvent } from "../../jobs/generation.ts";
import { GenerationRegistry, type RegistryOptions } from "../../jobs/generation_registry.ts";
import type { GenerateOptions } from "../../pipeline/inference.ts";
import { type GenerateInput, type GenerateOutput, PipelineError } from "../../pipeline/protocol.ts";
import { smallRequest } from "../real_bundle.ts";
import { outputOf } from "../routes/scripted_inference.ts";

/** A pipeline whose generations end when a test says so. */
class HeldPipeline {
  readonly calls: {
    readonly input: GenerateInput;
    readonly options: GenerateOptions;
    readonly end: (output?: GenerateOutput) => void;
    readonly fail: (error: unknown) => void;
  }[] = [];
  room = true;

  requireRoom(): void {
    if (!this.room) throw new PipelineError("queue_full", "full", { retry_after_seconds: 3 });
  }

  generate(input: GenerateInput, options: GenerateOptions = {}): Promise<GenerateOutput> {
    const { promise, resolve, reject } = Promise.withResolvers<GenerateOutput>();
    options.signal?.addEventListener("abort", () => reject(options.signal?.reason));
    this.calls.push({ input, options, end: (output = outputOf(input)) => resolve(output), fail: reject });
    return promise;
  }
}

function start(changes: Partial<RegistryOptions> = {}) {
  const inference = new HeldPipeline();
  const registry = new GenerationRegistry({
    timeoutSeconds: 600,
    resultTtlSeconds: 60,
    maxResultBytes: 10_000_000,
    ...changes,
  });
  const submit = (account = "alice", input: Partial<GenerateInput> = {}) =>
    registry.submit({
      account,
      requestId: "r1",
      model: "test-model",
      inference,
      input: smallRequest(Uint8Array.of(1), input),
      previewInterval: 2,
    });
  return { registry, inference, submit };
}

async function eventsOf(registry: GenerationRegistry, id: string, after = 0): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of await registry.watch("alice", id, { after }) ?? []) events.push(event);
  return events;
}

const preview = (index: number, step: number) => ({
  type: "preview" as const,
  preview: {
    index,
    step,
    steps: 4,
    contentType: "image/jpeg" as const,
    width: 1,
    height: 1,
    data: Uint8Array.of(step),
  },
});

Deno.test("a generation goes from queued to succeeded, and whoever watches sees it all, early or late", async () => {
  const { registry, inference, submit } = start();
  const { id, status, createdAt } = await submit();
  match(id, /^gen_[0-9a-f-]{36}$/);
  equal(status, "queued");
  const live = eventsOf(registry, id);
  const [call] = inference.calls as [typeof inference.calls[0]];
  equal(call.options.previewInterval, 2);
  const tell = call.options.onEvent!;
  tell({ type: "started" });
  equal((await registry.find("alice", id))?.status, "running");
  tell({ type: "progress", progress: { stage: "denoise", step: 1, steps: 4 } });
  deepEqual((await registry.find("alice", id))?.progress, { stage: "denoise", step: 1, steps: 4 });
  const output = outputOf(call.input);
  tell({ type: "image", image: output.images[0]! });
  equal((await registry.find("alice", id))?.images.length, 1);
  call.end(output);
  const seen = await live;
  deepEqual(seen.map(({ type }) => type), ["queued", "started", "progress", "image", "succeeded"]);
  deepEqual(seen.map(({ number }) => number), [1, 2, 3, 4, 5]);
  deepEqual(await eventsOf(registry, id), seen);
  deepEqual((await eventsOf(registry, id, 3)).map(({ type }) => type), ["image", "succeeded"]);
  deepEqual(await eventsOf(registry, id, 5), []);
  const final = await registry.find("alice", id);
  deepEqual([final?.status, final?.timings, final?.lastEvent], ["succeeded", output.timings, 5]);
  ok(final!.expiresAt!.getTime() >= createdAt.getTime() + 60_000);
});

Deno.test("of previews the newest of each picture is kept, and none in the end", async () => {
  const { registry, inference, submit } = start();
  const { id } = await submit();
  const { options, end } = inference.calls[0]!;
  for (const event of [preview(0, 2), preview(1, 2), preview(0, 3)]) options.onEvent!(event);
  const watching = (await registry.watch("alice", id))![Symbol.asyncIterator]();
  const kept: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { value } = await watching.next();
    kept.push(value.type === "preview" ? `${value.preview.index} after ${value.preview.step}` : value.type);
  }
  deepEqual(kept, ["queued", "1 after 2", "0 after 3"]);
  end();
  deepEqual((await watching.next()).value.type, "succeeded");
  deepEqual((await eventsOf(registry, id)).map(({ type }) => type), ["queued", "succeeded"]);
});

Deno.test("one account never sees, cancels or deletes another's", async () => {
  const { registry, submit } = start();
  const { id } = await submit("alice");
  equal(await registry.find("bob", id), undefined);
  equal(await registry.watch("bob", id), undefined);
  equal(await registry.cancel("bob", id), undefined);
  equal(await registry.remove("bob", id), false);
  equal((await registry.find("alice", id))?.status, "queued");
  await registry.remove("alice", id);
});

Deno.test("cancel ends it at once with that reason, and a finished one stays as it is", async () => {
  const { registry, inference, submit } = start();
  const { id } = await submit();
  const events = eventsOf(registry, id);
  equal((await registry.cancel("alice", id))?.status, "canceled");
  equal(inference.calls[0]!.options.signal!.aborted, true);
  deepEqual((await events).map(({ type }) => type), ["queued", "failed"]);
  equal((await registry.find("alice", id))?.failure?.code, "canceled");
  const other = await submit();
  const done = eventsOf(registry, other.id);
  inference.calls[1]!.end();
  await done;
  equal((await registry.cancel("alice", other.id))?.status, "succeeded");
});

Deno.test("delete leaves nothing, and ends what was running", async () => {
  const { registry, inference, submit } = start();
  const { id } = await submit();
  const events = eventsOf(registry, id);
  equal(await registry.remove("alice", id), true);
  equal(inference.calls[0]!.options.signal!.aborted, true);
  equal((await events).at(-1)?.type, "failed");
  equal(await registry.find("alice", id), undefined);
  equal(await registry.remove("alice", id), false);
  deepEqual(registry.size, { generations: 0, bytes: 0 });
});

Deno.test("a failure keeps its code, and an unexpected one tells nothing of itself but to the observer", async () => {
  const causes: unknown[] = [];
  const { registry, inference, submit } = start({
    onEvent: (_, { type }, cause) => type === "failed" && causes.push(cause),
  });
  const refused = await submit();
  const broken = await submit();
  const ends = [eventsOf(registry, refused.id), eventsOf(registry, broken.id)];
  inference.calls[0]!.fail(new PipelineError("face_not_found", "no face", { image: 0 }));
  const fault = new RangeError("secret");
  inference.calls[1]!.fail(fault);
  await Promise.all(ends);
  deepEqual((await registry.find("alice", refused.id))?.failure, {
    code: "face_not_found",
    message: "no face",
    details: { image: 0 },
  });
  const { failure, status } = (await registry.find("alice", broken.id))!;
  deepEqual([status, failure?.code], ["failed", "internal_error"]);
  ok(!failure!.message.includes("secret"));
  equal(causes[1], fault);
});

Deno.test("a full queue refuses, and keeps nothing of what it refused", async () => {
  const { registry, inference, submit } = start();
  inference.room = false;
  equal((await submit().catch((error) => error)).code, "queue_full");
  equal(registry.size.generations, 0);
});

Deno.test("a generation that takes too long fails with deadline_exceeded", async () => {
  const { registry, inference, submit } = start({ timeoutSeconds: 0.01 });
  const { id } = await submit();
  equal((await eventsOf(registry, id)).at(-1)?.type, "failed");
  const { status, failure } = (await registry.find("alice", id))!;
  deepEqual([status, failure?.code], ["failed", "deadline_exceeded"]);
  equal(inference.calls[0]!.options.signal!.reason.code, "deadline_exceeded");
});

Deno.test("finished ones are forgotten after their time, running ones are not", async () => {
  let now = 1_000_000;
  const { registry, inference, submit } = start({ now: () => now });
  const [old, running] = [await submit(), await submit()];
  const ended = eventsOf(registry, old.id);
  inference.calls[0]!.end();
  await ended;
  now += 59_000;
  ok(await registry.find("alice", old.id));
  now += 1_000;
  equal(await registry.find("alice", old.id), undefined);
  equal((await registry.find("alice", running.id))?.status, "queued");
  await registry.remove("alice", running.id);
});

Deno.test("finished ones together take no more than their share of memory: the oldest go first", async () => {
  const { registry, inference, submit } = start({ maxResultBytes: 250_000 });
  const ids: string[] = [];
  for (let i = 0; i < 4; i++) {
    const { id } = await submit();
    ids.push(id);
    const ended = eventsOf(registry, id);
    const { input, end } = inference.calls[i]!;
    const output = outputOf(input);
    end({ ...output, images: [{ ...output.images[0]!, data: new Uint8Array(80_000) }] });
    await ended;
  }
  const left = await Promise.all(ids.map((id) => registry.find("alice", id)));
  deepEqual(left.map((generation) => generation !== undefined), [false, false, true, true]);
  ok(registry.size.bytes <= 250_000);
});

Deno.test("draining takes no more, waits for what runs, and reports what it had to end", async () => {
  const { registry, inference, submit } = start();
  const [first, second] = [await submit(), await submit()];
  const patience = Promise.withResolvers<void>();
  const drained = registry.drain(patience.promise);
  equal(registry.draining, true);
  equal((await submit().catch((error) => error)).code, "shutting_down");
  const ended = eventsOf(registry, first.id);
  inference.calls[0]!.end();
  await ended;
  patience.resolve();
  deepEqual((await drained).map(({ id }) => id), [second.id]);
  equal((await registry.find("alice", first.id))?.status, "succeeded");
  const { status, failure } = (await registry.find("alice", second.id))!;
  deepEqual([status, failure?.code], ["failed", "shutting_down"]);
});

Deno.test("a watcher that leaves is done waiting", async () => {
  const { registry, submit } = start();
  const { id } = await submit();
  const leaving = new AbortController();
  const seen: string[] = [];
  for await (const { type } of (await registry.watch("alice", id, { signal: leaving.signal }))!) {
    seen.push(type);
    leaving.abort();
  }
  deepEqual(seen, ["queued"]);
  await registry.remove("alice", id);
});
