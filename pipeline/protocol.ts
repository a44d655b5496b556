/**
 * What is asked of the pipeline and what it answers, as plain types: `messages.ts` carries them between threads.
 *
 * Nothing here knows of HTTP: a route turns its request into a {@linkcode GenerateInput} and a
 * {@linkcode PipelineError} into a problem.
 */

import type { EarlyGuidance } from "./guidance.ts";

/** Output encodings the pipeline can write. */
export type OutputFormat = "png" | "jpeg" | "webp";

/** Names of the samplers a caller may ask for (diffusers' short names in snake_case). */
export type SchedulerName =
  | "ddim"
  | "euler"
  | "euler_ancestral"
  | "euler_restart"
  | "dpmpp_2m"
  | "dpmpp_2m_sde"
  | "unipc";

/** Why the pipeline refused or failed; stable, each maps to one problem of the API. */
export type PipelineErrorCode =
  | "image_not_decodable"
  | "image_truncated"
  | "image_too_large"
  | "image_format_unsupported"
  | "image_format_heic"
  | "face_not_found"
  | "multiple_faces"
  | "face_too_small"
  | "too_many_reference_images"
  | "class_noun_unknown"
  | "prompt_empty"
  | "prompt_too_long"
  | "scheduler_unknown"
  | "queue_full"
  | "canceled"
  | "deadline_exceeded"
  | "shutting_down"
  | "internal_error"
  | "worker_failed";

/**
 * An error whose cause and remedy the caller can be told.
 *
 * @param code stable reason
 * @param message one sentence that says what is wrong and what to do; never holds a path, photo or embedding
 * @param details numbers a client may act on, for example `{ tokens: 91, limit: 64 }`
 */
export class PipelineError extends Error {
  override readonly name = "PipelineError";
  constructor(
    readonly code: PipelineErrorCode,
    message: string,
    readonly details: Readonly<Record<string, number | string>> = {},
  ) {
    super(message);
  }
}

/** One request to make portraits; every default is already filled in. */
export interface GenerateInput {
  /** encoded photos (JPEG, PNG, WebP, AVIF) of one person, 1 to `max_reference_images` */
  readonly referenceImages: readonly Uint8Array[];
  readonly prompt: string;
  /** one of the manifest's `class_nouns` */
  readonly classNoun: string;
  readonly negativePrompt: string;
  /** 1 to 8 */
  readonly numImages: number;
  /** 1 to 100 */
  readonly numInferenceSteps: number;
  /** classifier-free guidance of the words (Ho & Salimans 2022); 1 turns it off */
  readonly guidanceScale: number;
  /** guidance of the person, 0 to 20; null guides words and person together by `guidanceScale` */
  readonly identityGuidanceScale: number | null;
  /** scales of the steps that begin a picture; null, or left out, for the same at all steps */
  readonly earlyGuidance?: EarlyGuidance | null;
  /** how much of the conditional prediction's spread guidance keeps, 0 to 1; 0 turns rescaling off */
  readonly guidanceRescale: number;
  /** beta of equation 7, 0 to 2; 1 as trained */
  readonly identityStrength: number;
  /** degrees, 0 to 20: by up to so many each picture's references are turned to a side (`turnOfSeed`); 0, or left out, for none */
  readonly poseVariation?: number;
  readonly scheduler: SchedulerName;
  /** all of the UNet runs at every so many steps, a part of it at the others; 1, all at all of them, to 10 */
  readonly cacheInterval: number;
  /** image i draws its noise from a torch CPU generator seeded `seed + i`; 0 to 2^32 - 9 */
  readonly seed: number;
  readonly outputFormat: OutputFormat;
}

/** What the pipeline is doing, for a progress bar. */
export interface GenerateProgress {
  readonly stage: "references" | "prompt" | "denoise" | "decode" | "encode";
  /** denoising steps done, the mean over the request's pictures rounded down, and in all; both 0 before `denoise` */
  readonly step: number;
  readonly steps: number;
}

/** What a picture will look like, small, as far as can be told in the middle of denoising. */
export interface GeneratePreview {
  readonly index: number;
  /** denoising steps the picture had taken */
  readonly step: number;
  readonly steps: number;
  readonly contentType: "image/jpeg";
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array<ArrayBuffer>;
}

/** One finished portrait. */
export interface GeneratedImage {
  readonly index: number;
  readonly seed: number;
  readonly contentType: "image/png" | "image/jpeg" | "image/webp";
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array<ArrayBuffer>;
  /**
   * cosine between the portrait's face and the references' mean, by the bundle's own recogniser, -1..1; null when
   * no face was found in the portrait
   */
  readonly identitySimilarity: number | null;
}

/** Something that happened to a generation. */
export type GenerateEvent =
  /** it left the queue */
  | { readonly type: "started" }
  | { readonly type: "progress"; readonly progress: GenerateProgress }
  | { readonly type: "preview"; readonly preview: GeneratePreview }
  /** one of its pictures is finished, perhaps before the others */
  | { readonly type: "image"; readonly image: GeneratedImage };

/** Wall-clock seconds by stage, each from the end of the one before; waiting for others' steps counts as well. */
export interface StageTimings {
  /** from the request to its start */
  readonly queue: number;
  readonly references: number;
  readonly prompt: number;
  readonly denoise: number;
  readonly decode: number;
  readonly encode: number;
  readonly total: number;
}

/** The finished portraits of one request. */
export interface GenerateOutput {
  readonly images: readonly GeneratedImage[];
  readonly timings: StageTimings;
}

/** One face found in a photo, in pixels of the upright (EXIF-oriented) photo. */
export interface DetectedFace {
  readonly box: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  /** detector confidence, 0..1 */
  readonly score: number;
  /** right eye, left eye, nose, right mouth corner, left mouth corner (the person's own right and left) */
  readonly landmarks: readonly (readonly [x: number, y: number])[];
}

/** Whether a photo will do as a reference. */
export interface FaceReport {
  readonly width: number;
  readonly height: number;
  readonly faces: readonly DetectedFace[];
  /** true when {@linkcode problems} is empty */
  readonly usable: boolean;
  readonly problems: readonly {
    readonly code:
      | "face_not_found"
      | "multiple_faces"
      | "face_too_small"
      | "face_turned_away"
      | "face_cut_off"
      | "blurred";
    readonly message: string;
    /** true when `POST /v1/generations` would refuse the photo; false for mere advice */
    readonly blocking: boolean;
  }[];
}
