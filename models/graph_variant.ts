import type { GraphName, Manifest } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";

/**
 * Which of a bundle's graphs to run where: on the CPU 8-bit integers, on CUDA half precision, where the bundle has them;
 * the plain graph elsewhere, and everywhere when the settings ask for it.
 *
 * @param manifest the bundle's
 * @param name which graph
 * @param settings where it will run
 * @returns its path inside the bundle
 *
 * @example
 * ```ts
 * graphPath(manifest, "unet", { provider: "cpu", threads: 2 }); // "unet/model_int8.onnx"
 * ```
 */
export function graphPath(
  { graphs, variants }: Pick<Manifest, "graphs" | "variants">,
  name: GraphName,
  { provider, precision = "fastest" }: SessionSettings,
): string {
  if (precision === "fp32") return graphs[name];
  return variants[provider === "cuda" ? "fp16" : "int8"]?.[name] ?? graphs[name];
}
