/** The typed messages between the main thread and the one inference worker. */

import type { GraphName } from "../models/manifest.ts";
import type { SessionSettings } from "../models/sessions.ts";
import type {
  FaceReport,
  GenerateEvent,
  GenerateInput,
  PipelineErrorCode,
  StageTimings,
} from "./protocol.ts";

/** One advance of all pictures of a batch. */
export interface Tick {
  /** pictures that shared the UNet's run */
  readonly pictures: number;
  readonly seconds: number;
}

/** What the worker did since it told last. */
export interface Measurements {
  readonly ticks: readonly Tick[];
  /** time inside ONNX Runtime alone */
  readonly graphs: readonly { readonly graph: GraphName; readonly seconds: number }[];
}

/** Main thread to worker. */
export type WorkerRequest =
  | {
    readonly type: "load";
    readonly bundle: string;
    readonly provider: SessionSettings["provider"];
    readonly threads: number;
    readonly cacheFolder: SessionSettings["cacheFolder"];
    /** most pictures in a batch; null has it measured */
    readonly maxBatch: number | null;
  }
  | {
    readonly type: "generate";
    readonly id: number;
    readonly input: GenerateInput;
    /** denoising steps from one preview of a picture to the next; 0 for none */
    readonly previewInterval: number;
  }
  | { readonly type: "check_face"; readonly id: number; readonly photo: Uint8Array }
  | { readonly type: "cancel"; readonly id: number };

/** Worker to main thread. */
export type WorkerResponse =
  | { readonly type: "loaded"; readonly maxBatch: number }
  | { readonly type: "load_failed"; readonly message: string }
  | { readonly type: "event"; readonly id: number; readonly event: GenerateEvent }
  /** its images came as events before */
  | { readonly type: "generated"; readonly id: number; readonly timings: StageTimings }
  | { readonly type: "face_checked"; readonly id: number; readonly report: FaceReport }
  | { readonly type: "measured"; readonly measurements: Measurements }
  | {
    readonly type: "failed";
    readonly id: number;
    readonly code: PipelineErrorCode;
    readonly message: string;
    readonly details: Readonly<Record<string, number | string>>;
  };
