/**
 * The image's HEALTHCHECK: exit code 0 while `/healthz` answers 200. Not `/readyz`: a process that loads or drains is
 * healthy, and must not be ended for it.
 */

const host = Deno.env.get("HOST") ?? "127.0.0.1";
// an address to listen on everywhere is none to connect to
const address = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
const port = Deno.env.get("PORT") ?? "8080";
const healthy = await fetch(`http://${address}:${port}/healthz`, { signal: AbortSignal.timeout(4_000) })
  .then(async (response) => {
    await response.body?.cancel();
    return response.ok;
  }, () => false);
Deno.exit(healthy ? 0 : 1);
