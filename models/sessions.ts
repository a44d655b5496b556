import { InferenceSession } from "onnxruntime-node";
import { BundleError } from "./bundle_error.ts";
import type { GraphName } from "./manifest.ts";

/** Where the graphs run. */
export type Provider = "cpu" | "cuda";

/** How ONNX Runtime sessions are made. */
export interface SessionSettings {
  /** `cuda` is the first GPU; there is no falling back to `cpu` */
  readonly provider: Provider;
  /** threads inside one operator, 1 or more; 0 lets ONNX Runtime take every core */
  readonly threads: number;
  /** `fp32` for PyTorch's own numbers, `fastest` (the default) for whatever runs best on the provider */
  readonly precision?: "fp32" | "fastest";
  /** keeps what graphs become, for a quicker next start; used by the `cpu` provider alone */
  readonly cacheFolder?: string | undefined;
  /** told of every run of a graph and how long ONNX Runtime took, in seconds */
  readonly onRun?: (graph: GraphName, seconds: number) => void;
}

/** Where what ONNX Runtime makes of a graph is written. */
export interface KeptGraph {
  readonly graph: string;
  /** name of a file beside it, which gets everything of a kilobyte and more */
  readonly weights: string;
}

/**
 * Loads one ONNX graph with its external weights.
 *
 * Loading and every later `run` block the calling thread (a property of onnxruntime-node), so this belongs in the
 * inference worker.
 *
 * @param path the `model.onnx`; its external data is found beside it
 * @param settings provider and threads
 * @param kept where to write what becomes of the graph on any processor; such a session is not as quick as it could be
 * @returns the session
 * @throws {BundleError} `provider_unavailable` when CUDA was asked for and its libraries or the GPU are missing,
 *   `graph_unreadable` when the graph cannot be loaded
 *
 * @example
 * ```ts
 * const session = await createSession("models/default/unet/model.onnx", { provider: "cpu", threads: 2 });
 * ```
 */
export async function createSession(
  path: string,
  settings: SessionSettings,
  kept?: KeptGraph,
): Promise<InferenceSession> {
  const cuda = settings.provider === "cuda";
  try {
    return await InferenceSession.create(path, {
      executionProviders: cuda ? [{ name: "cuda", deviceId: 0 }] : ["cpu"],
      // all that is more than "extended" are layouts for this very processor
      ...(kept === undefined
        ? { graphOptimizationLevel: "all" }
        : { graphOptimizationLevel: "extended", optimizedModelFilePath: kept.graph }),
      intraOpNumThreads: settings.threads,
      // Plans are kept for every shape that was ever seen, and batches have many: they took a quarter of all memory and
      // no time off (docs/architecture.md, "Memory").
      enableMemPattern: false,
      // Warnings about operators placed on the CPU beside CUDA are expected; errors are thrown anyway.
      logSeverityLevel: 3,
      // Each session has threads of its own. Those that spin from one operator to the next are there at once; idle ones
      // that spun would take the cores from the session at work and from the main thread.
      extra: {
        session: {
          intra_op: { allow_spinning: "1" },
          force_spinning_stop: "1",
          ...(kept === undefined ? {} : {
            optimized_model_external_initializers_file_name: kept.weights,
            // what is small may be a shape, which must stand in the graph itself
            optimized_model_external_initializers_min_size_in_bytes: "1024",
          }),
        },
      },
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (cuda && /cuda|provider/i.test(reason)) {
      throw new BundleError(
        "provider_unavailable",
        `CUDA is not usable (${reason}): install CUDA 12 or 13, whichever ONNX Runtime's provider is built for, ` +
          "cuDNN 9 and a driver for it, give a container its GPU (docker run --gpus all), or set the provider to cpu",
        { cause: error },
      );
    }
    throw new BundleError("graph_unreadable", `${path} cannot be loaded: ${reason}`, { cause: error });
  }
}
