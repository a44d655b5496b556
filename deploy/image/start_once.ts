/**
 * Starts the service in the image's build, waits until it is ready, and stops it: shows that the image serves, and leaves
 * compiled code in `DENO_DIR` and what ONNX Runtime makes of the graphs in `GRAPH_CACHE_DIR`, which every later start then
 * need not make.
 */

const stateFolder = await Deno.makeTempDir();
const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
const { port } = listener.addr;
listener.close();

/** A start in a build under emulation takes minutes. */
const patience = AbortSignal.timeout(600_000);

const service = new Deno.Command(Deno.execPath(), {
  args: ["run", "--no-prompt", "--cached-only", "--allow-all", "main.ts"],
  env: { HOST: "127.0.0.1", PORT: String(port), STATE_DIR: stateFolder, MAX_BATCH: "1", LOG_LEVEL: "warn" },
  stdin: "null",
}).spawn();
let ended = false;
service.status.then(() => ended = true);

async function ready(): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: patience });
    await response.body?.cancel();
    return response.ok;
  } catch {
    // not listening yet; a process that ended or took too long is told below
    return false;
  }
}

while (!ended && !patience.aborted && !await ready()) {
  await new Promise((resolve) => setTimeout(resolve, 100));
}
if (!ended) service.kill("SIGTERM");
const { code } = await service.status;
if (code !== 0 || patience.aborted) {
  console.error(`The service did not start; its exit code was ${code}.`);
  Deno.exit(1);
}
await Deno.remove(stateFolder, { recursive: true });
