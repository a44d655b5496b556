import { BundleError } from "./bundle_error.ts";
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
 * @throws {BundleError} `graph_mismatch` when the bundle has no such graph, which only an optional one may lack
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
  const plain = graphs[name];
  if (plain === undefined) {
    throw new BundleError("graph_mismatch", `the bundle has no graph ${name}: export it again`);
  }
  if (precision === "fp32") return plain;
  return variants[provider === "cuda" ? "fp16" : "int8"]?.[name] ?? plain;
}
