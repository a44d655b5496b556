import assert from "node:assert/strict";
import { graphPath } from "../../models/graph_variant.ts";
import { testManifest } from "../routes/test_manifest.ts";

Deno.test("the CPU runs integers and CUDA half precision, where the bundle has them", () => {
  const variants = { int8: { unet: "unet/int8.onnx" }, fp16: { unet: "unet/fp16.onnx" } };
  const { graphs } = testManifest;
  const cpu = { provider: "cpu", threads: 1 } as const;
  const cuda = { provider: "cuda", threads: 1 } as const;
  assert.equal(graphPath({ graphs, variants }, "unet", cpu), "unet/int8.onnx");
  assert.equal(graphPath({ graphs, variants }, "unet", cuda), "unet/fp16.onnx");
  assert.equal(graphPath({ graphs, variants }, "unet", { ...cpu, precision: "fp32" }), graphs.unet);
  assert.equal(graphPath({ graphs, variants }, "vae_decoder", cpu), graphs.vae_decoder);
  assert.equal(graphPath({ graphs, variants: {} }, "unet", cuda), graphs.unet);
});
