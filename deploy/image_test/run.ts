/**
 * `deno task image:test`: builds the image on processors, runs it as a platform would and uses it. Needs Linux, root, and
 * Debian's packages buildah, debootstrap and util-linux. The last line is one JSON object with what was measured.
 *
 * `--target cuda --cuda 13|12` builds the CUDA image and starts it without a GPU: nothing but the driver may be missing.
 */

import { equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import S3rver from "s3rver";
import { loadConfig } from "../../config.ts";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { createS3Client } from "../../store/s3_client.ts";
import { Buildah, type ImageConfig } from "./buildah.ts";
import { Container, type ContainerOptions, runInside } from "./container.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const embeddedBundle = join(repository, "models/default");

/** Seconds from the start of the process to `/readyz` answering 200: issue 7. */
const readyTarget = 5;

function log(text: string): void {
  console.log(`${new Date().toISOString().slice(11, 19)}  ${text}`);
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function statusOf(address: string): Promise<number> {
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(30_000) });
    await response.body?.cancel();
    return response.status;
  } catch {
    return 0;
  }
}

/** Starts the image and waits until it is ready; gives the seconds that took. */
async function start(
  options: ContainerOptions,
): Promise<{ container: Container; seconds: number; address: string }> {
  const port = freePort();
  const began = performance.now();
  const environment = { HOST: "127.0.0.1", PORT: String(port), ...options.environment };
  const container = new Container({ ...options, environment });
  const address = `http://127.0.0.1:${port}`;
  const end = Date.now() + 180_000;
  while (await statusOf(`${address}/readyz`) !== 200) {
    if (Date.now() > end || container.ended) {
      await container[Symbol.asyncDispose]();
      const lines = container.lines.filter((line) => !line.includes('"code":"not_ready"'));
      throw new Error(`the image does not get ready:\n${lines.join("\n")}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const seconds = (performance.now() - began) / 1000;
  log(
    `ready after ${seconds.toFixed(1)} s; processor time ${
      (await container.processorSeconds()).toFixed(1)
    } s`,
  );
  return { container, seconds, address };
}

async function tokenOf(stateFolder: string): Promise<string> {
  const { jwt } = loadConfig({ STATE_DIR: stateFolder }, { cores: 1, workingDirectory: repository });
  return await signDevelopmentToken(jwt, { subject: "image-test", expiresIn: "1h" });
}

async function portraitForm(steps: number): Promise<FormData> {
  const form = new FormData();
  const photo = await Deno.readFile(join(repository, "tests/fixtures/face.png"));
  form.set("reference_images", new File([photo], "face.png", { type: "image/png" }));
  const fields = {
    prompt: "a woman, smiling",
    class_noun: "woman",
    seed: "42",
    num_inference_steps: String(steps),
  };
  for (const [name, value] of Object.entries(fields)) form.set(name, value);
  return form;
}

async function generate(address: string, token: string, steps: number): Promise<Response> {
  return await fetch(`${address}/v1/generations`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}` },
    body: await portraitForm(steps),
  });
}

/** The portrait of a finished generation is a PNG of the model's size. */
async function expectPortrait(response: Response): Promise<void> {
  const answer = await response.json();
  equal(response.status, 200, JSON.stringify(answer));
  const png = Uint8Array.fromBase64(answer.images[0].data);
  equal(png.subarray(0, 4).toHex(), "89504e47");
  equal(new DataView(png.buffer).getUint32(16), answer.images[0].width);
}

/** As an operator sees a start: who the process is, what it may not do, its probes, a portrait. */
async function use(options: ContainerOptions): Promise<number> {
  const { container, seconds, address } = await start(options);
  await using _ = container;
  const { uid, pid, program } = await container.identity();
  equal(pid, 1, "Deno is process 1");
  equal(uid, 10001);
  match(program, /deno$/);
  equal(await statusOf(`${address}/healthz`), 200);
  equal(await statusOf(`${address}/docs/scalar.js`), 200, "the API's page has its script");
  const [, ...healthCheck] = options.config.Healthcheck?.Test ?? [];
  const port = new URL(address).port;
  const inside = (environment: Record<string, string>): ContainerOptions => ({ ...options, environment });
  equal((await runInside(inside({ HOST: "127.0.0.1", PORT: port }), healthCheck)).code, 0);
  equal((await runInside(inside({ HOST: "127.0.0.1", PORT: String(freePort()) }), healthCheck)).code, 1);
  // not even root could
  const asRoot = { ...options, config: { ...options.config, User: "0:0" } };
  match((await runInside(asRoot, ["touch", "/app/main.ts"])).output, /Read-only file system/);

  const token = await tokenOf(options.mounts["/state"]!);
  await expectPortrait(await generate(address, token, 20));
  log("a portrait was made");

  // long enough to be under way when the signal comes
  const running = generate(address, token, 100);
  while (!/idadapter_generations_running 1/.test(await (await fetch(`${address}/metrics`)).text())) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await container.kill("SIGTERM");
  while (await statusOf(`${address}/readyz`) === 200) await new Promise((resolve) => setTimeout(resolve, 5));
  const refused = await generate(address, token, 1);
  equal((await refused.json()).code, "shutting_down");
  await expectPortrait(await running);
  equal(await container.exitCode(), 0);
  log("SIGTERM: new work refused, the portrait under way finished, exit code 0");
  const strange = container.lines.filter((line) => !line.startsWith("{"));
  equal(strange.join("\n"), "", "nothing but log lines on standard error");
  return seconds;
}

async function stopped(options: ContainerOptions, expected?: string): Promise<number> {
  const { container, seconds } = await start(options);
  await using _ = container;
  await container.kill("SIGTERM");
  equal(await container.exitCode(), 0);
  if (expected !== undefined) {
    ok(container.lines.some((line) => line.includes(`"${expected}"`)), container.lines.join("\n"));
  }
  return seconds;
}

/** The embedded bundle in an S3-compatible service, fetched by the image. */
async function fetched(options: ContainerOptions): Promise<number> {
  const { PutObjectCommand } = await import("@aws-sdk/client-s3");
  const folder = await Deno.makeTempDir();
  const server = new S3rver({
    address: "127.0.0.1",
    port: 0,
    silent: true,
    directory: folder,
    configureBuckets: [{ name: "models", configs: [] }],
  });
  const endpoint = `http://127.0.0.1:${(await server.run()).port}`;
  const credentials = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };
  const client = await createS3Client({ region: "us-east-1", endpoint, credentials });
  const manifest = await Deno.readFile(join(embeddedBundle, "bundle.json"));
  const { files } = JSON.parse(new TextDecoder().decode(manifest));
  for (const path of [...Object.keys(files), "bundle.json"]) {
    const Body = await Deno.readFile(join(embeddedBundle, path));
    await client.send(new PutObjectCommand({ Bucket: "models", Key: `mini/${path}`, Body }));
  }
  client.destroy();
  const environment = {
    ...options.environment,
    BUNDLE: "s3://models/mini",
    BUNDLE_SHA256: createHash("sha256").update(manifest).digest("hex"),
    S3_ENDPOINT: endpoint,
    S3_ACCESS_KEY_ID: credentials.accessKeyId,
    S3_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  };
  try {
    return await stopped({ ...options, environment }, "bundle fetched");
  } finally {
    await server.close();
    await Deno.remove(folder, { recursive: true });
  }
}

async function test(root: string, config: ImageConfig): Promise<Record<string, number>> {
  const state = await Deno.makeTempDir();
  await Deno.chown(state, 10001, 10001);
  const environment = { MAX_BATCH: "2" };
  const options: ContainerOptions = { root, config, environment, mounts: { "/state": state } };
  try {
    log("a new /state:");
    const new_state = await use(options);
    log("the same /state again:");
    const ready = await stopped(options);
    log("a mounted bundle:");
    const mounted = await stopped({
      ...options,
      environment: { ...environment, BUNDLE: "/bundle" },
      mounts: { ...options.mounts, "/bundle": embeddedBundle },
    });
    log("a bundle fetched from S3:");
    const from_s3 = await fetched(options);
    return { new_state, ready, mounted, from_s3 };
  } finally {
    await Deno.remove(state, { recursive: true });
  }
}

/** The CUDA image where there is no GPU: it ends, and tells that the driver's library is all that it misses. */
async function startWithoutDriver(root: string, config: ImageConfig): Promise<void> {
  const state = await Deno.makeTempDir();
  await Deno.chown(state, 10001, 10001);
  try {
    const environment = { HOST: "127.0.0.1", PORT: String(freePort()) };
    const options = { root, config, environment, mounts: { "/state": state } };
    const { code, output } = await runInside(options, config.Entrypoint);
    equal(code, 1, output);
    match(
      output,
      /libonnxruntime_providers_cuda\.so with error: libcuda\.so\.1: cannot open shared object file/,
    );
    match(output, /CUDA is not usable .*docker run --gpus all/);
    log("without a driver: the start ends with what is missing, the driver's libcuda.so.1 alone");
  } finally {
    await Deno.remove(state, { recursive: true });
  }
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    target: { type: "string", default: "cpu" },
    cuda: { type: "string", default: "13" },
    cache: { type: "string", default: join(Deno.env.get("HOME") ?? "/root", ".cache/idadapter-image") },
  },
});
if (Deno.build.os !== "linux" || Deno.uid() !== 0) {
  console.error("image:test needs Linux and root: it mounts the image read-only.");
  Deno.exit(2);
}
for (const program of ["buildah", "debootstrap", "unshare"]) {
  const found = await new Deno.Command("which", { args: [program], stdout: "null" }).output();
  if (!found.success) {
    console.error(
      `${program} is missing: apt-get install --no-install-recommends buildah debootstrap util-linux`,
    );
    Deno.exit(2);
  }
}
const buildah = new Buildah(values.cache);
await buildah.ensureBase();
const began = performance.now();
const image = await buildah.build(values.target, "--build-arg", `CUDA=${values.cuda}`);
log(`${image.name} built in ${Math.round((performance.now() - began) / 1000)} s, ${image.bytes / 1e6} MB`);
await using unpacked = await buildah.unpack(image);
if (values.target === "cpu") {
  const seconds = await test(unpacked.root, image.config);
  const rounded = Object.fromEntries(
    Object.entries(seconds).map(([name, s]) => [name, Number(s.toFixed(2))]),
  );
  const holds = seconds["ready"]! <= readyTarget;
  console.log(JSON.stringify({
    test: "image",
    image_megabytes: image.bytes / 1e6,
    seconds_to_ready: rounded,
    figure: rounded["ready"],
    target: readyTarget,
    holds,
  }));
  Deno.exitCode = holds ? 0 : 1;
} else {
  await startWithoutDriver(unpacked.root, image.config);
}
