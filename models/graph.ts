import { join } from "node:path";
import { type InferenceSession, Tensor } from "onnxruntime-node";
import { BundleError } from "./bundle_error.ts";
import { cacheKey, createCachedSession } from "./graph_cache.ts";
import { graphPath } from "./graph_variant.ts";
import type { Bundle, GraphName } from "./manifest.ts";
import { createSession, type SessionSettings } from "./sessions.ts";
import type { FloatTensor, IntegerTensor } from "./tensor.ts";

/** A side of a tensor: fixed, or a letter that stands for one number throughout one run of a graph. */
export type Side = number | string;

/** The shape of every input and output of a graph that is used; outputs that are not named are not fetched. */
export interface GraphShape {
  readonly inputs: Readonly<Record<string, readonly Side[]>>;
  readonly outputs: Readonly<Record<string, readonly Side[]>>;
}

/**
 * A loaded graph: checks the shapes of what goes in and comes out, runs, and blocks its thread meanwhile.
 *
 * @throws {RangeError} a tensor's shape does not fit, or its data is not as long as its shape says
 */
export type Graph<Shape extends GraphShape> = (
  inputs: { readonly [Name in keyof Shape["inputs"]]: FloatTensor | IntegerTensor },
) => Promise<{ readonly [Name in keyof Shape["outputs"]]: FloatTensor }>;

/**
 * Loads one graph of a bundle and checks that it has the inputs and outputs its wrapper expects.
 *
 * @param bundle where the graph lies
 * @param name which graph
 * @param settings how to run it
 * @param shape what it must take and give; every output is fp32
 * @throws {BundleError} the graph cannot be loaded, or `graph_mismatch` when names or fixed sides differ from `shape`
 *
 * @example
 * ```ts
 * const decode = await loadGraph(bundle, "vae_decoder", settings, {
 *   inputs: { latent: ["b", 8, 16, 16] },
 *   outputs: { image: ["b", 3, 128, 128] },
 * });
 * const { image } = await decode({ latent });
 * ```
 */
export async function loadGraph<const Shape extends GraphShape>(
  bundle: Bundle,
  name: GraphName,
  settings: SessionSettings,
  shape: Shape,
): Promise<Graph<Shape>> {
  return (await openGraph(bundle, name, settings))(shape);
}

/** An open graph, to be called with one or several shapes: see {@linkcode openGraph}. */
export type OpenGraph = <const Shape extends GraphShape>(
  shape: Shape,
  leftOut?: readonly string[],
) => Graph<Shape>;

/**
 * Opens one graph of a bundle, for who calls it in more than one way.
 *
 * @param bundle where the graph lies
 * @param name which graph
 * @param settings how to run it
 * @returns checks a shape as {@linkcode loadGraph} does, and gives what runs it; inputs named in its second argument are
 *   left out where the graph has no use for them
 * @throws {BundleError} the graph cannot be loaded
 *
 * @example
 * ```ts
 * const open = await openGraph(bundle, "unet", settings);
 * const predict = open({ inputs, outputs: { prediction } });
 * ```
 */
export async function openGraph(
  bundle: Bundle,
  name: GraphName,
  settings: SessionSettings,
): Promise<OpenGraph> {
  const path = graphPath(bundle.manifest, name, settings);
  const file = join(bundle.folder, path);
  const { cacheFolder, provider } = settings;
  const session = cacheFolder === undefined || provider === "cuda"
    ? await createSession(file, settings)
    : await createCachedSession(file, settings, cacheFolder, cacheKey(bundle, path));
  return (shape, leftOut = []) => wrapSession(session, name, settings, shape, leftOut);
}

function wrapSession<const Shape extends GraphShape>(
  session: InferenceSession,
  name: GraphName,
  settings: SessionSettings,
  shape: Shape,
  leftOut: readonly string[],
): Graph<Shape> {
  const expectedInputs = Object.fromEntries(
    Object.entries(shape.inputs).filter(([input]) =>
      !leftOut.includes(input) || session.inputNames.includes(input)
    ),
  );
  checkSignature(name, "input", session.inputMetadata, expectedInputs);
  checkSignature(name, "output", session.outputMetadata, shape.outputs);
  const fetched = Object.keys(shape.outputs);
  return async (inputs) => {
    const sides = new Map<string, number>();
    const feeds: Record<string, Tensor> = {};
    for (const [input, expected] of Object.entries(shape.inputs)) {
      const tensor = inputs[input as keyof typeof inputs];
      checkShape(`${name}.${input}`, tensor, expected, sides);
      if (input in expectedInputs) feeds[input] = toTensor(tensor);
    }
    const began = performance.now();
    const results = await session.run(feeds, fetched);
    settings.onRun?.(name, (performance.now() - began) / 1000);
    const outputs: Record<string, FloatTensor> = {};
    for (const [output, expected] of Object.entries(shape.outputs)) {
      outputs[output] = fromTensor(`${name}.${output}`, results[output]);
      checkShape(`${name}.${output}`, outputs[output], expected, sides);
    }
    return outputs as Awaited<ReturnType<Graph<Shape>>>;
  };
}

/**
 * Checks one tensor against its expected shape.
 *
 * @param what its name, for the message
 * @param tensor the tensor
 * @param expected fixed sides and letters
 * @param sides what letters stand for so far; letters seen first here are added
 * @throws {RangeError} the shapes differ, or the data is not as long as the shape says
 *
 * @example
 * ```ts
 * checkShape("unet.sample", { data: new Float32Array(8), dims: [2, 4] }, ["b", 4], new Map());
 * ```
 */
export function checkShape(
  what: string,
  tensor: FloatTensor | IntegerTensor,
  expected: readonly Side[],
  sides: Map<string, number>,
): void {
  const fits = tensor.dims.length === expected.length && expected.every((side, axis) => {
    const found = tensor.dims[axis]!;
    if (typeof side === "number") return found === side;
    if (!sides.has(side)) sides.set(side, found);
    return sides.get(side) === found;
  });
  if (!fits) {
    const bound = [...sides].map(([letter, value]) => `${letter}=${value}`).join(", ");
    throw new RangeError(
      `${what} is [${tensor.dims}], expected [${expected}]${bound === "" ? "" : ` with ${bound}`}`,
    );
  }
  const length = tensor.dims.reduce((product, side) => product * side, 1);
  if (tensor.data.length !== length) {
    throw new RangeError(`${what} is [${tensor.dims}] but holds ${tensor.data.length} numbers`);
  }
}

function checkSignature(
  graph: GraphName,
  kind: "input" | "output",
  found: readonly InferenceSession.ValueMetadata[],
  expected: Readonly<Record<string, readonly Side[]>>,
): void {
  for (const [name, sides] of Object.entries(expected)) {
    const value = found.find((candidate) => candidate.name === name);
    if (value === undefined || !value.isTensor) {
      throw new BundleError(
        "graph_mismatch",
        `${graph} has no ${kind} ${name} (it has ${found.map((other) => other.name).join(", ")})`,
      );
    }
    const fits = value.shape.length === sides.length &&
      sides.every((side, axis) => {
        const actual = value.shape[axis];
        return typeof side === "string" || typeof actual === "string" || side === actual;
      });
    if (!fits) {
      throw new BundleError(
        "graph_mismatch",
        `${graph}'s ${kind} ${name} is [${value.shape}], the manifest makes it [${sides}]`,
      );
    }
  }
  const surplus = found.find((value) => !(value.name in expected));
  if (kind === "input" && surplus !== undefined) {
    throw new BundleError("graph_mismatch", `${graph} wants an input ${surplus.name} nothing provides`);
  }
}

function toTensor(tensor: FloatTensor | IntegerTensor): Tensor {
  return tensor.data instanceof Float32Array
    ? new Tensor("float32", tensor.data, tensor.dims)
    : new Tensor("int64", tensor.data, tensor.dims);
}

function fromTensor(what: string, tensor: Tensor | undefined): FloatTensor {
  if (tensor === undefined || !(tensor.data instanceof Float32Array)) {
    throw new RangeError(`${what} is ${tensor?.type ?? "missing"}, expected float32`);
  }
  return { data: tensor.data, dims: tensor.dims };
}
