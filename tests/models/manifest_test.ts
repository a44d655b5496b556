import assert from "node:assert/strict";
import { join } from "node:path";
import { BundleError } from "../../models/bundle_error.ts";
import { GRAPH_NAMES, loadManifest } from "../../models/manifest.ts";

const template = [[30, 30], [60, 30], [45, 45], [32, 60], [58, 60]];

/** A manifest with every field of docs/bundle.md. */
function validManifest(): Record<string, unknown> {
  const graphs = Object.fromEntries(GRAPH_NAMES.map((name) => [name, `${name}/model.onnx`]));
  const paths = [
    ...Object.values(graphs),
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
  ];
  return {
    schema_version: 1,
    name: "tiny",
    version: "1.0.0",
    description: "",
    license: "MIT",
    parts: [{ name: "unet", origin: "trained here", license: "MIT" }],
    image_size: 128,
    latent: { channels: 8, size: 16 },
    max_reference_images: 4,
    class_nouns: ["person"],
    identifier: "sks",
    identity_token_count: 145,
    precision: "fp16",
    defaults: { scheduler: "dpmpp_2m", num_inference_steps: 20, guidance_scale: 3, identity_strength: 1 },
    unconditional_identity: "zero",
    faces: {
      detector: { input_size: 416, enlarges: true, score_threshold: 0.5, iou_threshold: 0.3 },
      landmarks: { input_size: 112, margin: 1.0 },
      recognizer: { input_size: 150, template },
      image_encoder: { input_size: 96, template },
      portrait: { input_size: 128, template },
    },
    scheduler: "scheduler/scheduler_config.json",
    tokenizer: "tokenizer",
    graphs,
    files: Object.fromEntries(paths.map((path) => [path, { sha256: "0".repeat(64), size: 1 }])),
  };
}

async function load(content: unknown): ReturnType<typeof loadManifest> {
  const folder = await Deno.makeTempDir();
  try {
    const text = typeof content === "string" ? content : JSON.stringify(content);
    await Deno.writeTextFile(join(folder, "bundle.json"), text);
    return await loadManifest(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function assertInvalid(content: unknown, message: RegExp): Promise<void> {
  const error = await load(content).then(() => assert.fail("was taken"), (error) => error);
  assert.ok(error instanceof BundleError, String(error));
  assert.equal(error.code, "manifest_invalid");
  assert.match(error.message, message);
}

Deno.test("a whole manifest is read, fields of a later version are dropped", async () => {
  const manifest = await load({ ...validManifest(), novelty: 1 });
  assert.equal(manifest.faces.detector.input_size, 416);
  assert.ok(!("novelty" in manifest));
});

Deno.test("a folder without bundle.json is told apart from a broken one", async () => {
  const error = await loadManifest("/nowhere").catch((error) => error);
  assert.ok(error instanceof BundleError);
  assert.equal(error.code, "manifest_missing");
  await assertInvalid("{", /not JSON/);
});

Deno.test("every field at fault is named", async () => {
  const broken = { ...validManifest(), image_size: -1, unconditional_identity: "maybe" };
  await assertInvalid(broken, /image_size.*unconditional_identity/);
  await assertInvalid({ ...validManifest(), schema_version: 2 }, /schema_version/);
});

Deno.test("paths that leave the bundle are refused", async () => {
  for (const path of ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "a//b", ""]) {
    await assertInvalid({ ...validManifest(), tokenizer: path }, /tokenizer/);
  }
});

Deno.test("a graph, a scheduler or a tokenizer without a digest is refused", async () => {
  const used = [
    "unet/model.onnx",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
  ];
  for (const path of used) {
    const manifest = validManifest();
    delete (manifest["files"] as Record<string, unknown>)[path];
    await assertInvalid(manifest, new RegExp(`${path} is used`));
  }
});
