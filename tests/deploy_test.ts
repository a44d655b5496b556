/** What deploy/ says fits what the service takes and tells. */

import { deepEqual, ok } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Registry } from "prom-client";
import { ConfigError, loadConfig } from "../config.ts";
import { ServiceMetrics } from "../telemetry/metrics.ts";
import { problemCatalogue } from "../openapi/problems.ts";

const repository = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => Deno.readTextFileSync(join(repository, path));

/** Values that the files leave to secrets. */
const secrets: Readonly<Record<string, string>> = {
  DATABASE_URL: "postgres://u:p@db.example/idadapter",
  ENCRYPTION_KEYS: new Uint8Array(32).fill(7).toBase64(),
};

/** Environment of a container in Kubernetes' and Azure's style: `- name: X` with `value: y` or a secret. */
function listedEnvironment(text: string): Record<string, string> {
  const entries = [...text.matchAll(/- name: ([A-Z][A-Z0-9_]+)\n\s+(value|valueFrom|secretRef): *(.*)/g)];
  return Object.fromEntries(
    entries.map(([, name, kind, value]) => [
      name!,
      kind === "value" ? value!.replaceAll('"', "") : secrets[name!] ?? "",
    ]),
  );
}

for (const file of ["cloud_run.yaml", "knative.yaml", "azure_container_apps.yaml"]) {
  Deno.test(`${file}: the service starts with its environment, in time for the platform's end`, () => {
    const text = read(`deploy/${file}`);
    const environment = listedEnvironment(text);
    const config = loadConfig(environment, { cores: 4, workingDirectory: "/app" });
    deepEqual(config.durable.store.kind, "server", "instances that come and go share one database");
    deepEqual(config.executionProvider, "cuda");
    ok(config.maxBatch !== undefined, "nobody measures in a cold start");
    // Cloud Run's is fixed at 10 s; a pod of Knative gets its request timeout
    const patience = file === "cloud_run.yaml" ? 10 : Number(
      text.match(/(?:terminationGracePeriodSeconds|timeoutSeconds): (\d{2,})/)?.[1],
    );
    ok(config.shutdownGraceSeconds + 7 <= patience, "grace, answers and database fit before the kill");
    const known = ["config.ts", "config/durable.ts", "config/bundle.ts", "config/s3.ts"].map(read).join("");
    for (const name of Object.keys(environment)) ok(known.includes(`${name}:`), `${name} is no variable`);
  });
}

Deno.test("compose.yaml: its variables are the service's, and each has to be given or may be empty", () => {
  const service = read("deploy/compose.yaml").split("  database:\n")[0]!;
  const environment = Object.fromEntries(
    [...service.matchAll(/^ {6}([A-Z][A-Z0-9_]+): (.*)$/gm)].map(([, name, value]) => [
      name!,
      secrets[name!] ?? value!.replace(/\$\{\w+:-(.*)\}/, "$1").replaceAll('"', ""),
    ]),
  );
  ok(Object.keys(environment).length >= 6);
  try {
    loadConfig(environment, { cores: 4, workingDirectory: "/app" });
  } catch (error) {
    if (error instanceof ConfigError) throw new Error(error.problems.join("\n"));
    throw error;
  }
});

Deno.test("alert rules ask for figures and problem codes that exist, and each has its runbook", async () => {
  const rules = read("deploy/prometheus_rules.yaml");
  const metrics = new ServiceMetrics({
    load: () => undefined,
    waiting: () => Promise.resolve(0),
    kept: () => ({ generations: 0, bytes: 0 }),
    residentMemory: () => 0,
    problemCodes: [],
  });
  ok(metrics.registry instanceof Registry);
  const figures = new Set((await metrics.registry.getMetricsAsJSON()).map(({ name }) => name));
  const asked = new Set(
    [...rules.matchAll(/\b(idadapter_[a-z_]+?)(?:_bucket)?\b(?=[{\[)\s>])/g)].map(([, name]) => name!),
  );
  ok(asked.size >= 6);
  deepEqual([...asked].filter((name) => !figures.has(name)), []);
  const codes = [...rules.matchAll(/code=~?"([^"]+)"/g)].flatMap(([, list]) => list!.split("|"));
  deepEqual(codes.filter((code) => !(code in problemCatalogue)), []);
  const headings = [...read("docs/operate.md").matchAll(/^#+ (.*)$/gm)].map(([, text]) =>
    text!.toLowerCase()
  );
  for (const [, name] of rules.matchAll(/alert: (\w+)/g)) {
    ok(headings.includes(name!.toLowerCase()), `docs/operate.md has no section ${name}`);
    ok(rules.includes(`runbook: docs/operate.md#${name!.toLowerCase()}`));
  }
});
