/** The demo as a person runs it: `deno task demo`, with the real service and the real model. */

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const photo = Deno.env.get("TEST_PHOTO") ?? join(repository, "tests/fixtures/face.png");
const decoder = new TextDecoder();

interface Ending {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function command(args: readonly string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "demo", ...args],
    cwd: repository,
    env: { INIT_CWD: repository, THREADS: "2" },
    stdout: "piped",
    stderr: "piped",
  });
}

async function demo(...args: string[]): Promise<Ending> {
  const { code, stdout, stderr } = await command(args).output();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

function addressIn(stdout: string): string {
  const [address] = /http:\/\/127\.0\.0\.1:\d+/.exec(stdout) ?? [];
  ok(address, stdout);
  return address;
}

/** Nothing listens any more. */
async function expectStopped(stdout: string): Promise<void> {
  await rejects(fetch(`${addressIn(stdout)}/healthz`), TypeError);
}

Deno.test("portraits and a contact sheet from a photo, all of it told, the service stopped", async () => {
  const folder = await Deno.makeTempDir();
  const out = join(folder, "new", "folder");
  const options = [
    "--prompt",
    "a pencil sketch",
    "--prompt",
    "smiling",
    "--seed",
    "7",
    "--steps",
    "3",
    "--count",
    "2",
    "--out",
    out,
  ];
  const { code, stdout, stderr } = await demo("--photo", photo, ...options);
  equal(code, 0, stderr);
  match(stdout, /one face, score (1|0\.\d\d)/);
  match(stdout, /"a pencil sketch", person, 2 from seed 7[^]*"smiling", person, 2 from seed 9/);
  match(stdout, /denoise 3\/3\n/);
  ok(!stdout.includes("\x1b"), "no drawing where nobody looks");
  for (const [index, seed] of [7, 8, 9, 10].entries()) {
    match(
      stdout,
      new RegExp(
        `portrait_${
          index + 1
        }_seed_${seed}\\.png  seed ${seed}  identity similarity (-?\\d\\.\\d\\d|no face found)`,
      ),
    );
  }
  match(stdout, /references \d.*, prompt \d.*, denoise \d.*, decode \d.*, encode \d.*, total \d/);
  const files = [...Deno.readDirSync(out)].map(({ name }) => name).sort();
  const portraits = [1, 2, 3, 4].map((number) => `portrait_${number}_seed_${number + 6}.png`);
  deepEqual(files, ["contact_sheet.png", ...portraits]);
  const [sketch, smile] = await Promise.all(
    [0, 2].map((index) => sharp(join(out, portraits[index]!)).stats()),
  );
  ok(
    sketch!.channels[0]!.mean > smile!.channels[0]!.mean,
    "each prompt has portraits of its own: a sketch is white",
  );
  equal((await sharp(join(out, "contact_sheet.png")).metadata()).width, 12 + 256 + 24 + 4 * 268);
  await expectStopped(stdout);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what the API refuses is told with its code and what to do; exit code 1, the service stopped", async () => {
  const out = await Deno.makeTempDir();
  const { code, stdout, stderr } = await demo("--photo", photo, "--class-noun", "dragon", "--out", out);
  equal(code, 1);
  match(stderr, /^class_noun_unknown: \/class_noun must be one of .*person/m);
  match(stderr, /^What to do: /m);
  match(stderr, /^ {2}request [0-9a-f-]{36}$/m);
  ok(!stderr.includes("    at "), "no stack");
  await expectStopped(stdout);
  await Deno.remove(out);
});

Deno.test("a photo without a face is refused before anything is made", async () => {
  const folder = await Deno.makeTempDir();
  const wall = join(folder, "wall.png");
  await sharp({ create: { width: 300, height: 300, channels: 3, background: "#7f9fbf" } }).toFile(wall);
  const { code, stdout, stderr } = await demo("--photo", wall, "--out", folder);
  equal(code, 1);
  match(stdout, /wall\.png, 300 x 300, 0 faces/);
  match(stderr, /^face_not_found: /m);
  match(stderr, /^What to do: /m);
  ok(!stdout.includes("denoise"));
  await expectStopped(stdout);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a wrong option is told before anything starts; exit code 2", async () => {
  for (
    const args of [["--count", "99"], ["--photo", "/nowhere/face.png"], ["--photo", photo, "--out", photo]]
  ) {
    const { code, stdout, stderr } = await demo(...args);
    equal(code, 2);
    // on a line of its own: Deno may tell of a download before it
    match(stderr, new RegExp(`^${args.at(-2)}`, "m"));
    match(stderr, /--help/);
    equal(stdout, "");
  }
  const bucket = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "demo", "--photo", photo],
    cwd: repository,
    env: { BUNDLE: "s3://bucket/bundle" },
  });
  const { code, stderr } = await bucket.output();
  equal(code, 2);
  match(decoder.decode(stderr), /^BUNDLE: .*folder/m);
});

Deno.test("--help tells the options; exit code 0", async () => {
  const { code, stdout } = await demo("--help");
  equal(code, 0);
  match(stdout, /--class-noun NOUN/);
});

Deno.test("a service that cannot start gives its reason; exit code 1", async () => {
  const folder = await Deno.makeTempDir();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "demo", "--photo", photo, "--out", folder],
    cwd: repository,
    env: { BUNDLE: folder },
  });
  const { code, stderr } = await child.output();
  equal(code, 1);
  match(decoder.decode(stderr), /^service_failed: .*bundle[^]*^What to do: Check BUNDLE/m);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Ctrl-C in the middle stops the service too", async () => {
  const out = await Deno.makeTempDir();
  const child = command(["--photo", photo, "--steps", "100", "--count", "8", "--out", out]).spawn();
  const errors = new Response(child.stderr).text();
  let stdout = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const running = stdout.includes("denoise");
    stdout += text;
    if (!running && stdout.includes("denoise")) child.kill("SIGINT");
  }
  equal((await child.status).code, 130, await errors);
  ok(!stdout.includes("denoise 100/100"));
  await expectStopped(stdout);
  deepEqual([...Deno.readDirSync(out)], []);
  await Deno.remove(out);
});
