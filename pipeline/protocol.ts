/**
 * The typed messages between the main thread and the one inference worker, and the plain types they carry.
 *
 * Nothing here knows of HTTP: a route turns its request into a {@linkcode GenerateInput} and a
 * {@linkcode PipelineError} into a problem.
 */

/** Output encodings the pipeline can write. */
export type OutputFormat = "png" | "jpeg" | "webp";

/** Names of the samplers a caller may ask for (diffusers' short names in snake_case). */
export type SchedulerName = "ddim" | "euler" | "euler_ancestral" | "dpmpp_2m" | "dpmpp_2m_sde" | "unipc";

/** Why the pipeline refused or failed; stable, each maps to one problem of the API. */
export type PipelineErrorCode =
  | "image_not_decodable"
  | "image_truncated"
  | "image_too_large"
  | "image_format_unsupported"
  | "face_not_found"
  | "multiple_faces"
  | "face_too_small"
  | "too_many_reference_images"
  | "class_noun_unknown"
  | "prompt_empty"
  | "prompt_too_long"
  | "scheduler_unknown"
  | "canceled"
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
  /** classifier-free guidance (Ho & Salimans 2022); 1 turns it off */
  readonly guidanceScale: number;
  /** beta of equation 7, 0 to 2; 1 as trained */
  readonly identityStrength: number;
  readonly scheduler: SchedulerName;
  /** image i draws its noise from a torch CPU generator seeded `seed + i`; 0 to 2^32 - 9 */
  readonly seed: number;
  readonly outputFormat: OutputFormat;
}

/** What the pipeline is doing, for a progress bar. */
export interface GenerateProgress {
  readonly stage: "references" | "prompt" | "denoise" | "decode" | "encode";
  /** denoising steps done, and in all; both 0 before `denoise` */
  readonly step: number;
  readonly steps: number;
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

/** Wall-clock seconds by stage. */
export interface StageTimings {
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

/** Main thread to worker. */
export type WorkerRequest =
  | {
    readonly type: "load";
    readonly bundle: string;
    readonly provider: "cpu" | "cuda";
    readonly threads: number;
  }
  | { readonly type: "generate"; readonly id: number; readonly input: GenerateInput }
  | { readonly type: "check_face"; readonly id: number; readonly photo: Uint8Array }
  | { readonly type: "cancel"; readonly id: number };

/** Worker to main thread. */
export type WorkerResponse =
  | { readonly type: "loaded" }
  | { readonly type: "load_failed"; readonly message: string }
  | { readonly type: "progress"; readonly id: number; readonly progress: GenerateProgress }
  | { readonly type: "generated"; readonly id: number; readonly output: GenerateOutput }
  | { readonly type: "face_checked"; readonly id: number; readonly report: FaceReport }
  | {
    readonly type: "failed";
    readonly id: number;
    readonly code: PipelineErrorCode;
    readonly message: string;
    readonly details: Readonly<Record<string, number | string>>;
  };

/** What the rest of the service may ask of the inference worker; `pipeline/client.ts` implements it. */
export interface Inference {
  /** false until the bundle is loaded and every served shape was run once, and again after the worker died */
  readonly ready: boolean;
  /**
   * Makes portraits.
   *
   * @param signal aborting it cancels between two denoising steps; the promise rejects with code `canceled`
   * @throws {PipelineError} when the input is refused or the worker fails
   */
  generate(
    input: GenerateInput,
    options?: { readonly signal?: AbortSignal; readonly onProgress?: (progress: GenerateProgress) => void },
  ): Promise<GenerateOutput>;
  /** @throws {PipelineError} when the photo cannot be decoded */
  checkFace(photo: Uint8Array): Promise<FaceReport>;
  /** Ends the worker; running calls reject with code `canceled`. */
  close(): Promise<void>;
}
