/** `deno task doctor` as an operator runs it: each thing broken for real, and found. */

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { sql } from "kysely";
import type { Config } from "../../config.ts";
import { checkBundle, linkedLibraries } from "../../doctor/check_bundle.ts";
import { checkDisk } from "../../doctor/check_machine.ts";
import type { Finding } from "../../doctor/finding.ts";
import { connectEmbeddedStore, openEmbeddedStore } from "../../store/embedded_store.ts";
import { lockAccount } from "../../billing/ledger.ts";
import { addEndpoint } from "../../jobs/webhooks/endpoints.ts";
import { createSealer } from "../../store/sealing.ts";
import { openServerStore } from "../../store/server_store.ts";
import { loadEncryptionKeys } from "../../store/encryption_keys.ts";
import { postgresInstalled } from "../../bench/shared/postgres_server.ts";
import { bundleFolder } from "../real_bundle.ts";
import { fileServer, withoutPostgres } from "../store/each_store.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));

/** What the doctor said. */
interface Report {
  readonly code: number;
  readonly text: string;
  /** the finding of this name */
  readonly found: (check: string) => Finding;
}

async function examine(environment: Record<string, string>, ...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "doctor", ...args],
    cwd: repository,
    env: { PORT: "0", THREADS: "1", DATABASE_URL: "", ENCRYPTION_KEYS: "", JWT_JWKS_URL: "", ...environment },
  }).output();
  const text = new TextDecoder().decode(stdout);
  return {
    code,
    text,
    found(check) {
      const finding = (JSON.parse(text).checks as Finding[]).find((finding) => finding.check === check);
      ok(finding, `no ${check} in ${text} ${new TextDecoder().decode(stderr)}`);
      equal(finding.remedy === null, finding.status === "ok");
      return finding;
    },
  };
}

/** A folder of the test's own. */
async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const publicKey = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };

/** An identity provider's key set on loopback. */
function serveKeys(body: unknown, date = new Date()) {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => Response.json(body, { headers: { Date: date.toUTCString() } }),
  );
  return {
    variables: {
      JWT_JWKS_URL: `http://127.0.0.1:${server.addr.port}/jwks`,
      JWT_ISSUER: "https://id.test",
      JWT_AUDIENCE: "idadapter",
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

Deno.test("a healthy machine: a line a check, exit code 0, and nothing is changed", () =>
  inFolder(async (folder) => {
    const { code, text } = await examine({ STATE_DIR: join(folder, "state") });
    equal(code, 0, text);
    const names =
      "configuration|bundle|execution provider|database|encryption keys|signing keys|disk|permissions|port|clock";
    for (const line of text.trim().split("\n")) match(line, new RegExp(`^(ok|warning) +(${names}) +\\S`));
    equal(text.trim().split("\n").length, names.split("|").length);
    deepEqual([...Deno.readDirSync(folder)], []);
  }));

Deno.test("a wrong variable is found before anything else", async () => {
  const report = await examine({ PORT: "http" }, "--json");
  equal(report.code, 1);
  match(report.found("configuration").detail, /^PORT /);
  equal((await examine({}, "--jason")).code, 2);
});

Deno.test("a bundle that the first start fetches is not missed before it", () =>
  inFolder(async (folder) => {
    const s3 = {
      S3_ENDPOINT: "http://127.0.0.1:9",
      S3_REGION: "here",
      S3_ACCESS_KEY_ID: "a",
      S3_SECRET_ACCESS_KEY: "b",
    };
    const report = await examine({ ...s3, BUNDLE: "s3://models/default", STATE_DIR: folder }, "--json");
    match(report.found("bundle").detail, /s3:\/\/models\/default at the first start/);
    equal(report.found("bundle").status, "ok");
    equal(report.code, 0, report.text);
  }));

/** A copy of the real bundle, and its manifest to be changed. */
async function copyBundle(folder: string) {
  const manifest = JSON.parse(await Deno.readTextFile(join(bundleFolder, "bundle.json")));
  for (const path of Object.keys(manifest.files)) {
    await Deno.mkdir(dirname(join(folder, path)), { recursive: true });
    await Deno.symlink(join(bundleFolder, path), join(folder, path));
  }
  const save = () => Deno.writeTextFile(join(folder, "bundle.json"), JSON.stringify(manifest));
  /** Changes a JSON file, and its digest with it. */
  const change = async (path: string, fields: Record<string, unknown>) => {
    const content = JSON.parse(await Deno.readTextFile(join(bundleFolder, path)));
    const text = JSON.stringify({ ...content, ...fields });
    await Deno.remove(join(folder, path));
    await Deno.writeTextFile(join(folder, path), text);
    const size = new TextEncoder().encode(text).length;
    manifest.files[path] = { sha256: createHash("sha256").update(text).digest("hex"), size };
  };
  await save();
  return { manifest, save, change };
}

/** What the doctor says of a bundle, without a process of its own. */
function examineBundle(bundle: string, bundleSource?: { bucket: string; prefix: string }) {
  return checkBundle({ bundle, bundleSource, executionProvider: "cpu", threads: 1 } as Config);
}

Deno.test("a bundle of whole files that the service would not start with fails, and what is wrong is named", async () => {
  const scheduler = "scheduler/scheduler_config.json";
  const tokenizer = "tokenizer/tokenizer_config.json";
  type Copy = Awaited<ReturnType<typeof copyBundle>>;
  const cases: readonly [(copy: Copy) => unknown, string, RegExp][] = [
    [
      ({ change }) => change(scheduler, { use_beta_sigmas: true }),
      "bundle",
      /scheduler_config\.json .*use_beta/,
    ],
    [
      ({ change }) => change(tokenizer, { model_max_length: 1e30 }),
      "bundle",
      /tokenizer_config\.json .*model_max/,
    ],
    [({ change }) => change(tokenizer, { pad_token: "<pad>" }), "bundle", /tokenizer\.json .*<pad>/],
    [({ manifest }) => manifest.quiet_patches[0].patches.push(999), "bundle", /bundle\.json.*patch 999/],
    [({ manifest }) => delete manifest.files[tokenizer], "bundle", /tokenizer_config\.json is used/],
    [({ manifest }) => manifest.latent.size = 32, "execution provider", /unet's input sample/],
    [({ change }) => change(tokenizer, { model_max_length: 77 }), "execution provider", /input_ids/],
  ];
  for (const [spoil, check, detail] of cases) {
    await inFolder(async (folder) => {
      const copy = await copyBundle(folder);
      await spoil(copy);
      await copy.save();
      const bad = (await examineBundle(folder)).filter(({ status }) => status !== "ok");
      deepEqual(bad.map((finding) => finding.check), [check], `${detail}`);
      match(bad[0]!.detail, detail);
    });
  }
});

Deno.test("of a bundle whose fetching was cut short the doctor says that the next start goes on", () =>
  inFolder(async (folder) => {
    const source = { bucket: "models", prefix: "mini" };
    await copyBundle(folder);
    await Deno.remove(join(folder, "unet/model.onnx"));
    const [cut, ...others] = await examineBundle(folder, source);
    deepEqual([cut?.status, others], ["ok", []]);
    match(cut!.detail, /unet\/model\.onnx of .* the next start fetches them from s3:\/\/models\/mini/);
    const [lost] = await examineBundle(folder);
    equal(lost?.status, "failed");
    await Deno.symlink(join(bundleFolder, "unet/model.onnx"), join(folder, "unet/model.onnx"));
    const whole = await examineBundle(folder, source);
    deepEqual(whole.map(({ check, status }) => [check, status]), [
      ["bundle", "ok"],
      ["execution provider", "ok"],
    ]);
  }));

Deno.test("changed weights, no server, a clock an hour off, a taken port, a folder that is none", () =>
  inFolder(async (folder) => {
    const bundle = join(folder, "bundle");
    await Deno.mkdir(bundle);
    for (const { name } of Deno.readDirSync(bundleFolder)) {
      if (name !== "unet") await Deno.symlink(join(bundleFolder, name), join(bundle, name));
    }
    await Deno.mkdir(join(bundle, "unet"));
    let changed = "";
    for (const { name } of Deno.readDirSync(join(bundleFolder, "unet"))) {
      await Deno.copyFile(join(bundleFolder, "unet", name), join(bundle, "unet", name));
      if (name.endsWith("config.json") || name === "model.onnx") changed = name;
    }
    const path = join(bundle, "unet", changed);
    const bytes = await Deno.readFile(path);
    await Deno.chmod(path, 0o600);
    await Deno.writeFile(path, bytes.with(bytes.length >> 1, bytes[bytes.length >> 1]! ^ 1));
    await Deno.writeTextFile(join(folder, "file"), "");
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    using closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = closed.addr;
    closed.close();
    await using provider = serveKeys({ keys: [publicKey] }, new Date(Date.now() - 3_600_000));
    const report = await examine({
      ...provider.variables,
      BUNDLE: bundle,
      STATE_DIR: join(folder, "file", "state"),
      PORT: String(taken.addr.port),
      DATABASE_URL: `postgres://nobody:secret-of-nobody@127.0.0.1:${port}/none`,
      ENCRYPTION_KEYS: new Uint8Array(32).toBase64(),
    }, "--json");
    equal(report.code, 1);
    const { ok: fine } = JSON.parse(report.text);
    equal(fine, false);
    const expected = {
      bundle: /^unet\/.* has SHA-256/,
      database: /ECONNREFUSED/,
      clock: /^(3599|3600|3601|3602|3603)\.\d s from the identity provider's clock/,
      port: /^another process listens on/,
      permissions: /cannot be written/,
    };
    for (const [check, detail] of Object.entries(expected)) {
      equal(report.found(check).status, "failed", check);
      match(report.found(check).detail, detail);
    }
    equal(report.found("signing keys").status, "ok");
    ok(!report.text.includes("secret-of-nobody"));
  }));

Deno.test("no CUDA, a key set that is none, a schema of a newer release, a lost encryption key", () =>
  inFolder(async (folder) => {
    {
      await using store = await openEmbeddedStore(join(folder, "database"));
      await sql`insert into kysely_migration (name, timestamp) values ('9999_future', 'now')`.execute(
        store.queries,
      );
    }
    await using provider = serveKeys({ keys: [{ kty: "oct", k: "c2VjcmV0" }] });
    const report = await examine({
      ...provider.variables,
      STATE_DIR: folder,
      EXECUTION_PROVIDER: "cuda",
    }, "--json");
    equal(report.code, 1);
    const expected = {
      "signing keys": /holds no set of public keys/,
      migrations: /9999_future/,
      "encryption keys": /is gone/,
      // on a machine with a GPU and without ONNX Runtime's part, that part alone is missing
      "execution provider": /missing: .*libonnxruntime_providers_cuda\.so/,
    };
    for (const [check, detail] of Object.entries(expected)) {
      equal(report.found(check).status, "failed", check);
      match(report.found(check).detail, detail);
    }
  }));

Deno.test({
  name: "what a library is linked against is read from it: which CUDA the provider wants",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const linked = await linkedLibraries(Deno.execPath());
    ok(linked.includes("libc.so.6"), linked.join(" "));
    for (const name of linked) match(name, /^[\w+-]+\.so\.\d+$/);
    await rejects(linkedLibraries(fileURLToPath(import.meta.url)));
  },
});

Deno.test("a database that the service has open and keys that others may read are warnings", () =>
  inFolder(async (folder) => {
    await loadEncryptionKeys({ kind: "development", path: join(folder, "encryption_key") });
    await Deno.chmod(join(folder, "encryption_key"), 0o644);
    const report = await (async () => {
      await using _store = await connectEmbeddedStore(join(folder, "database"));
      return await examine({ STATE_DIR: folder }, "--json");
    })();
    equal(report.code, 0, report.text);
    for (const check of ["database", "permissions"]) equal(report.found(check).status, "warning");
    match(report.found("permissions").remedy ?? "", /^chmod 600 /);
  }));

Deno.test("a disk with less room than there should be", () =>
  inFolder(async (folder) => {
    equal((await checkDisk(folder, { failed: Infinity, warning: Infinity })).status, "failed");
    equal((await checkDisk(folder, { failed: 0, warning: Infinity })).status, "warning");
    equal((await checkDisk(join(folder, "not", "yet"), { failed: 0, warning: 0 })).status, "ok");
  }));

Deno.test({
  name: "on a server: its version, what the next start migrates, and keys that do not fit what is in it" +
    withoutPostgres,
  ignore: !postgresInstalled,
  sanitizeResources: false,
  fn: () =>
    inFolder(async (folder) => {
      const url = await (await fileServer()).createDatabase();
      const keys = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
      const variables = { STATE_DIR: folder, DATABASE_URL: url, ENCRYPTION_KEYS: keys[1]!.toBase64() };
      const before = await examine(variables, "--json");
      equal(before.code, 0, before.text);
      match(before.found("database").detail, /^PostgreSQL \d+/);
      match(before.found("migrations").detail, /0001_ledger/);
      equal(before.found("clock").status, "ok");
      {
        await using store = await openServerStore({ url });
        await store.transaction(async (transaction) => {
          await lockAccount(transaction, "a", 0);
          await addEndpoint(transaction, await createSealer([keys[0]!]), "a", "https://example.com");
        });
      }
      const after = await examine(variables, "--json");
      equal(after.code, 1);
      equal(after.found("migrations").detail, "up to date");
      match(after.found("encryption keys").detail, /was encrypted with a key that is not here/);
      const mended = await examine({
        ...variables,
        ENCRYPTION_KEYS: keys.map((key) => key.toBase64()).join(","),
      }, "--json");
      equal(mended.found("encryption keys").status, "ok");
    }),
});
