/** A manifest for tests that never reach a graph. */

import { type Manifest, manifestSchema } from "../../models/manifest.ts";

const template = [[40, 50], [80, 50], [60, 70], [45, 90], [75, 90]];
const graphNames = [
  "face_detector",
  "face_landmarks",
  "face_recognizer",
  "image_encoder",
  "mixed_features",
  "text_encoder",
  "unet",
  "vae_encoder",
  "vae_decoder",
  "unet_shallow",
];
const graphs = Object.fromEntries(graphNames.map((name) => [name, `${name}/model.onnx`]));
const scheduler = "scheduler/scheduler_config.json";
const digest = { sha256: "0".repeat(64), size: 1 };

/** Defaults differ from the contract's examples on purpose: an answer that shows them read them from here. */
export const testManifest: Manifest = manifestSchema.parse({
  schema_version: 1,
  name: "test-model",
  version: "0.0.1",
  description: "no weights",
  license: "none",
  parts: [],
  image_size: 64,
  latent: { channels: 4, size: 8 },
  max_reference_images: 3,
  class_nouns: ["man", "woman"],
  drawing_words: ["sketch", "cartoon"],
  identifier: "sks",
  identity_token_count: 5,
  precision: "fp32",
  defaults: {
    negative_prompt: "a painted face",
    scheduler: "euler",
    num_inference_steps: 17,
    guidance_scale: 2.5,
    identity_guidance_scale: 1.25,
    early_guidance_scale: 3.5,
    early_identity_guidance_scale: null,
    early_guidance_until: 800,
    guidance_rescale: 0.25,
    identity_strength: 0.9,
    pose_variation: 12,
  },
  unconditional_identity: "zero",
  faces: {
    detector: { input_size: 416, enlarges: false, score_threshold: 0.5, iou_threshold: 0.3 },
    landmarks: { input_size: 112, margin: 1 },
    recognizer: { input_size: 150, template },
    image_encoder: { input_size: 96, template },
    portrait: { input_size: 128, template },
  },
  scheduler,
  tokenizer: "tokenizer",
  graphs,
  files: Object.fromEntries([...Object.values(graphs), scheduler].map((path) => [path, digest])),
});
