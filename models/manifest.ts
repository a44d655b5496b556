import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { BundleError } from "./bundle_error.ts";
import { listFaults } from "./read_bundle_file.ts";

/** The graphs of a bundle, by the name of their folder. */
export const GRAPH_NAMES = [
  "face_detector",
  "face_landmarks",
  "face_recognizer",
  "image_encoder",
  "mixed_features",
  "text_encoder",
  "unet",
  "vae_encoder",
  "vae_decoder",
] as const;

/**
 * Graphs that a bundle may have beside them: `unet_shallow`, the UNet's first block down and last block up, which go on
 * from what the others gave a step before.
 */
export const OPTIONAL_GRAPH_NAMES = ["unet_shallow"] as const;

/** One of {@linkcode GRAPH_NAMES} or {@linkcode OPTIONAL_GRAPH_NAMES}. */
export type GraphName = (typeof GRAPH_NAMES)[number] | (typeof OPTIONAL_GRAPH_NAMES)[number];

const positiveInteger = z.int().positive();

/** A path inside the bundle: relative, `/` between its parts, never out of the folder. */
const bundlePath = z.string().min(1).refine(
  (path) =>
    !path.startsWith("/") && !path.includes("\\") && !path.includes(":") &&
    path.split("/").every((part) => part !== "" && part !== "." && part !== ".."),
  "must be a relative path that stays inside the bundle",
);

const point = z.tuple([z.number(), z.number()]);

/** Five points (right eye, left eye, nose, right and left mouth corner) in pixels of a square of `input_size`. */
const alignedFace = z.object({
  input_size: positiveInteger,
  template: z.tuple([point, point, point, point, point]),
});

const graphPaths = Object.fromEntries(GRAPH_NAMES.map((name) => [name, bundlePath])) as Record<
  (typeof GRAPH_NAMES)[number],
  typeof bundlePath
>;

const variantPaths = z.partialRecord(z.enum([...GRAPH_NAMES, ...OPTIONAL_GRAPH_NAMES]), bundlePath)
  .optional();

/**
 * `bundle.json`, as docs/bundle.md describes it. Fields this version does not know are dropped, so that a newer
 * exporter may add some; what the fields mean and their units stand in that document.
 */
export const manifestSchema = z.object({
  schema_version: z.literal(1),
  name: z.string().min(1),
  version: z.string().min(1),
  description: z.string(),
  license: z.string(),
  parts: z.array(z.object({ name: z.string(), origin: z.string(), license: z.string() })),
  /** side of the portraits in pixels */
  image_size: positiveInteger,
  latent: z.object({ channels: positiveInteger, size: positiveInteger }),
  /** N of the paper */
  max_reference_images: positiveInteger,
  class_nouns: z.array(z.string().min(1)).min(1),
  /** words that tell a view: references are turned there, to the picture's left or right, and are not turned by chance */
  view_words: z.object({
    left: z.array(z.string().min(1)),
    right: z.array(z.string().min(1)),
    other: z.array(z.string().min(1)),
    /** words for what has a side itself: right before one, a side is no view's */
    sided: z.array(z.string().min(1)).default([]),
  }).default({ left: [], right: [], other: [], sided: [] }),
  /** what the adapters see less of in references where words tell what is to be there: a mouth, a hat */
  quiet_patches: z.array(z.object({
    words: z.array(z.string().min(1)),
    /** which of the P patches show it */
    patches: z.array(z.int().min(0)),
    /** added to the attention logits of their tokens */
    bias: z.number().max(0),
  })).default([]),
  /** words that ask for a drawing rather than a photo: `defaults.negative_prompt` is not for these */
  drawing_words: z.array(z.string().min(1)).default([]),
  identifier: z.string().min(1),
  /** M: tokens of E_r */
  identity_token_count: positiveInteger,
  precision: z.enum(["fp32", "fp16", "int8"]),
  defaults: z.object({
    /** what photos are led away from; empty, or left out: nothing */
    negative_prompt: z.string().default(""),
    scheduler: z.enum([
      "ddim",
      "euler",
      "euler_ancestral",
      "euler_restart",
      "dpmpp_2m",
      "dpmpp_2m_sde",
      "unipc",
    ]),
    num_inference_steps: z.int().min(1).max(100),
    guidance_scale: z.number().min(1),
    /** null, or left out: the person is guided as the words are */
    identity_guidance_scale: z.number().min(0).nullable().default(null),
    /** scales of the steps that begin a picture; null, or left out: those of the others */
    early_guidance_scale: z.number().min(1).nullable().default(null),
    early_identity_guidance_scale: z.number().min(0).nullable().default(null),
    /** the last timestep of those steps, of 1000 */
    early_guidance_until: z.number().min(0).max(1000).default(800),
    /** phi of `rescaleGuidance` */
    guidance_rescale: z.number().min(0).max(1).default(0),
    identity_strength: z.number().min(0).max(2),
    /** degrees by which references' heads are turned, a picture by another angle (`turnOfSeed`) */
    pose_variation: z.number().min(0).max(20).default(0),
  }),
  /** E_r in the unconditional branch of guidance: all zeros, or the same as in the conditional one */
  unconditional_identity: z.enum(["zero", "same"]),
  faces: z.object({
    detector: z.object({
      input_size: positiveInteger,
      /** whether the graph takes smaller squares, too, and enlarges them itself */
      enlarges: z.boolean().default(false),
      score_threshold: z.number().min(0).max(1),
      iou_threshold: z.number().min(0).max(1),
    }),
    landmarks: z.object({ input_size: positiveInteger, margin: z.number().positive() }),
    recognizer: alignedFace,
    image_encoder: alignedFace,
    portrait: alignedFace,
  }),
  scheduler: bundlePath,
  tokenizer: bundlePath,
  graphs: z.object({ ...graphPaths, unet_shallow: bundlePath.optional() }),
  /** the same graphs in less precision, where there are any; `graph_variant.ts` says which is run */
  variants: z.object({ int8: variantPaths, fp16: variantPaths }).default({}),
  files: z.record(
    bundlePath,
    z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().nonnegative() }),
  ),
});

/** {@linkcode manifestSchema} where every file that is used is listed: others would be neither fetched nor verified. */
const wholeManifestSchema = manifestSchema.superRefine((manifest, context) => {
  const variants = Object.values(manifest.variants).flatMap((graphs) => Object.values(graphs ?? {}));
  const graphs = Object.values(manifest.graphs).filter((path) => path !== undefined);
  const tokenizer = ["tokenizer.json", "tokenizer_config.json"].map((name) =>
    `${manifest.tokenizer}/${name}`
  );
  for (const path of [...graphs, ...variants, manifest.scheduler, ...tokenizer]) {
    if (!(path in manifest.files)) {
      context.addIssue({ code: "custom", path: ["files"], message: `${path} is used but has no digest` });
    }
  }
});

/** A checked `bundle.json`. */
export type Manifest = z.infer<typeof manifestSchema>;

/** A bundle on disk: its folder and its checked manifest. */
export interface Bundle {
  readonly folder: string;
  readonly manifest: Manifest;
}

/**
 * Reads and checks `bundle.json`; the other files are not touched (see `verifyBundle`).
 *
 * @param folder the bundle's folder
 * @returns the manifest
 * @throws {BundleError} `manifest_missing` when the file cannot be read, `manifest_invalid` when it is not JSON or
 *   does not fit the schema; the message names every field at fault
 *
 * @example
 * ```ts
 * const manifest = await loadManifest("models/default");
 * console.log(manifest.name, manifest.image_size);
 * ```
 */
export async function loadManifest(folder: string): Promise<Manifest> {
  const path = join(folder, "bundle.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new BundleError("manifest_missing", `${path} cannot be read: is ${folder} a model bundle?`, {
      cause: error,
    });
  }
  return parseManifest(text, path);
}

/**
 * Checks the text of a `bundle.json`.
 *
 * @param text of the file
 * @param path what a message calls it
 * @returns the manifest
 * @throws {BundleError} `manifest_invalid` when it is not JSON, does not fit the schema, or uses a file that it does not list
 */
export function parseManifest(text: string, path: string): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new BundleError("manifest_invalid", `${path} is not JSON: export the bundle again`, {
      cause: error,
    });
  }
  const parsed = wholeManifestSchema.safeParse(json);
  if (!parsed.success) {
    throw new BundleError("manifest_invalid", `${path} does not fit the schema: ${listFaults(parsed.error)}`);
  }
  return parsed.data;
}
