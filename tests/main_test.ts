/** The process as an operator sees it: exit codes, probes while it loads, what SIGTERM does. */

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { GenerationSchema } from "../openapi/generation.ts";
import { readFacePhoto } from "./routes/real_model.ts";
import { asForm } from "./routes/test_service.ts";

const repository = fileURLToPath(new URL("..", import.meta.url));

/** One service process and what it has written. */
class ServiceProcess {
  readonly lines: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #read: Promise<void>;

  constructor(environment: Record<string, string>) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", "start"],
      cwd: repository,
      // a bundle that the test run was pointed at is the one to test
      env: { PORT: "0", THREADS: "1", ...environment },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#read = this.#readLines();
  }

  async #readLines(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      this.lines.push(...parts);
    }
  }

  /** Waits for a log line with this message. */
  async logged(message: string): Promise<Record<string, unknown>> {
    for (let waited = 0; waited < 60_000; waited += 20) {
      const line = this.lines.find((text) => text.startsWith("{") && JSON.parse(text).message === message);
      if (line !== undefined) return JSON.parse(line);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`the service never logged ${message}:\n${this.lines.join("\n")}`);
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  async exitCode(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#read;
    return code;
  }
}

Deno.test("a wrong configuration: every problem on standard error, exit code 2", async () => {
  const service = new ServiceProcess({ PORT: "http", LOG_LEVEL: "loud" });
  equal(await service.exitCode(), 2);
  const text = service.lines.join("\n");
  match(text, /PORT must be a whole number/);
  match(text, /LOG_LEVEL must be one of/);
  ok(!text.includes("at "), text);
});

Deno.test("a bundle that is not there: says so, exit code 1", async () => {
  const folder = await Deno.makeTempDir();
  const service = new ServiceProcess({ BUNDLE: folder, STATE_DIR: folder });
  equal(await service.exitCode(), 1);
  const failure = await service.logged("the model cannot be loaded");
  match(String(failure.reason), /bundle/);
  match(String(failure.remedy), /BUNDLE/);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("it answers while it loads, and on SIGTERM finishes what it has begun", async () => {
  const folder = await Deno.makeTempDir();
  const service = new ServiceProcess({ STATE_DIR: folder });
  const { port } = await service.logged("listening");
  const address = `http://127.0.0.1:${port}`;
  const health = await fetch(`${address}/healthz`);
  deepEqual(await health.json(), { status: "ok" });
  const early = await fetch(`${address}/readyz`);
  await early.body?.cancel();
  ok(early.status === 503 || service.lines.some((line) => line.includes('"ready"')));
  await service.logged("ready");
  const ready = await fetch(`${address}/readyz`);
  deepEqual(await ready.json(), { status: "ready" });

  const printed = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "token", "--sub", "tester", "--expires-in", "5m"],
    cwd: repository,
    env: { STATE_DIR: folder },
  }).output();
  const headers = { Authorization: `Bearer ${new TextDecoder().decode(printed.stdout).trim()}` };
  const models = await fetch(`${address}/v1/models`, { headers });
  equal(models.status, 200);
  const { data: [model] } = await models.json();

  const form = {
    reference_images: await readFacePhoto(),
    prompt: "a smile",
    class_noun: model.class_nouns[0],
  };
  const request = { ...asForm({ ...form, num_inference_steps: "40" }), headers };
  const generation = fetch(`${address}/v1/generations`, request);
  // the answer begins with the first denoising step: from here on it is running
  const response = await generation;
  service.kill("SIGTERM");
  await service.logged("stopping");
  equal(GenerationSchema.parse(await response.json()).images.length, 1);
  equal(await service.exitCode(), 0);
  const refused = await fetch(`${address}/healthz`).then(() => "answered").catch(() => "refused");
  equal(refused, "refused");
  await Deno.remove(folder, { recursive: true });
});

/** A span as OTLP writes it in JSON. */
interface ExportedSpan {
  readonly name: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
}

/** A trace collector: OTLP over HTTP, JSON. */
function startCollector() {
  const spans: ExportedSpan[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const body = await request.json();
    for (const { scopeSpans } of body.resourceSpans ?? []) {
      for (const scope of scopeSpans) spans.push(...scope.spans);
    }
    return Response.json({});
  });
  return { spans, address: `http://127.0.0.1:${server.addr.port}`, stop: () => server.shutdown() };
}

Deno.test("figures and traces of real generations, and what SIGTERM does to one that outlasts the grace", async () => {
  const folder = await Deno.makeTempDir();
  const collector = startCollector();
  const service = new ServiceProcess({
    STATE_DIR: folder,
    MAX_BATCH: "2",
    SHUTDOWN_GRACE_SECONDS: "0",
    OTEL_DENO: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.address,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_BSP_SCHEDULE_DELAY: "50",
  });
  const { port } = await service.logged("listening");
  const { max_batch } = await service.logged("ready");
  equal(max_batch, 2);
  const address = `http://127.0.0.1:${port}`;
  const printed = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "token"],
    cwd: repository,
    env: { STATE_DIR: folder },
  }).output();
  const headers = { Authorization: `Bearer ${new TextDecoder().decode(printed.stdout).trim()}` };
  const form = { reference_images: await readFacePhoto(), prompt: "a smile", class_noun: "woman" };
  const ask = (fields: Record<string, string>, more: Record<string, string> = {}) =>
    fetch(`${address}/v1/generations`, {
      ...asForm({ ...form, ...fields }),
      headers: { ...headers, ...more },
    });

  const response = await ask({ num_images: "3", num_inference_steps: "2" });
  equal(GenerationSchema.parse(await response.json()).images.length, 3);
  const page = await (await fetch(`${address}/metrics`)).text();
  for (
    const line of [
      "idadapter_images_total 3",
      "idadapter_batch_limit 2",
      // three pictures of two steps, two at a time
      "idadapter_batch_pictures_sum 6",
      'idadapter_graph_runs_total{graph="vae_decoder"} 3',
      'idadapter_stage_seconds_count{stage="denoise"} 1',
    ]
  ) {
    ok(page.includes(`${line}\n`), `${line} is not in\n${page}`);
  }

  const late = await ask({ num_images: "8", num_inference_steps: "20" }, { Prefer: "respond-async" });
  const { id } = await late.json();
  const events = (await fetch(`${address}/v1/generations/${id}/events`, { headers })).text();
  service.kill("SIGTERM");
  ok(!/event: (failed|succeeded)/.test(await events), "the stream ends, the generation does not");
  deepEqual((await service.logged("unfinished, back in the queue")).ids, [id]);
  equal(await service.exitCode(), 0);

  const next = new ServiceProcess({ STATE_DIR: folder });
  const { port: nextPort } = await next.logged("listening");
  await next.logged("ready");
  const rest = await fetch(`http://127.0.0.1:${nextPort}/v1/generations/${id}/events`, {
    headers: { ...headers, "Last-Event-ID": "3" },
  });
  match(await rest.text(), /event: succeeded/);
  next.kill("SIGTERM");
  equal(await next.exitCode(), 0);

  const whole = collector.spans.find(({ name }) => name === "generation");
  const request = collector.spans.find(({ spanId }) => spanId === whole?.parentSpanId);
  ok(request, "a generation's span belongs to its request's");
  const stages = collector.spans.filter(({ parentSpanId }) => parentSpanId === whole?.spanId);
  deepEqual(stages.map(({ name }) => name), ["queue", "references", "prompt", "denoise", "decode", "encode"]);
  await collector.stop();
  await Deno.remove(folder, { recursive: true });
});
