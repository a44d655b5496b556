import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import { join } from "node:path";
import { cacheKey, createCachedSession } from "../../models/graph_cache.ts";
import { graphPath } from "../../models/graph_variant.ts";
import { zeros } from "../../models/tensor.ts";
import { loadVaeDecoder } from "../../models/vae_decoder.ts";
import { startInference } from "../../pipeline/client.ts";
import { bundleFolder, portrait, realBundle, sessionSettings, smallRequest } from "../real_bundle.ts";

const entriesOf = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name);

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(join(folder, "graphs"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a graph gives the same from the cache, and is optimised once", () =>
  withFolder(async (cacheFolder) => {
    const bundle = await realBundle();
    const { channels, size } = bundle.manifest.latent;
    const latent = zeros([1, channels, size, size]);
    latent.data.forEach((_, index) => latent.data[index] = Math.sin(index));
    const plain = await (await loadVaeDecoder(bundle, sessionSettings))(latent);
    for (const _ of ["kept", "found"]) {
      const cached = await (await loadVaeDecoder(bundle, { ...sessionSettings, cacheFolder }))(latent);
      const furthest = cached.data.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - plain.data[i]!)),
        0,
      );
      ok(furthest < 1e-5, `${furthest}`);
    }
    const path = graphPath(bundle.manifest, "vae_decoder", sessionSettings);
    const key = cacheKey(bundle, path);
    deepEqual(entriesOf(cacheFolder), [key]);
    // nothing else is needed any more
    await (await createCachedSession("/nowhere.onnx", sessionSettings, cacheFolder, key)).release();
  }));

Deno.test("a portrait is the same to the byte from kept graphs, the 8-bit UNet's among them", () =>
  withFolder(async (cacheFolder) => {
    const request = smallRequest(await portrait());
    const files: Uint8Array[] = [];
    for (const kept of [undefined, cacheFolder, cacheFolder]) {
      const inference = await startInference({
        bundle: bundleFolder,
        provider: "cpu",
        threads: 2,
        maxBatch: 1,
        cacheFolder: kept,
      });
      const { images: [image] } = await inference.generate(request);
      files.push(image!.data);
      await inference.close();
    }
    deepEqual(files[1], files[0]);
    deepEqual(files[2], files[0]);
  }));

Deno.test("an entry that cannot be opened is made again, one that is too old is removed", () =>
  withFolder(async (folder) => {
    const bundle = await realBundle();
    const path = join(bundle.folder, graphPath(bundle.manifest, "mixed_features", sessionSettings));
    const open = async (key: string) =>
      await (await createCachedSession(path, sessionSettings, folder, key)).release();
    await open("one");
    const graph = join(folder, "one", "graph.onnx");
    const { size } = await Deno.stat(graph);
    await Deno.truncate(graph, 100);
    await open("one");
    equal((await Deno.stat(graph)).size, size);
    const longAgo = new Date(Date.now() - 31 * 86_400_000);
    await Deno.utime(join(folder, "one"), longAgo, longAgo);
    await open("two");
    deepEqual(entriesOf(folder), ["two"]);
  }));

Deno.test("an entry whose files are damaged is made again, and never served", () =>
  withFolder(async (cacheFolder) => {
    const bundle = await realBundle();
    const { channels, size } = bundle.manifest.latent;
    const latent = zeros([1, channels, size, size]);
    const decode = async () =>
      (await (await loadVaeDecoder(bundle, { ...sessionSettings, cacheFolder }))(latent)).data;
    const expected = await decode();
    const entry = join(cacheFolder, entriesOf(cacheFolder)[0]!);
    const damages: readonly ((path: string) => Promise<void>)[] = [
      // as a file is after a power cut: as long as it was, of zeros
      async (path) => await Deno.writeFile(path, new Uint8Array((await Deno.stat(path)).size)),
      async (path) => {
        const bytes = await Deno.readFile(path);
        await Deno.writeFile(path, bytes.with(bytes.length >> 1, bytes[bytes.length >> 1]! ^ 64));
      },
      Deno.remove,
    ];
    for (const name of ["weights.bin", "graph.onnx", "checksums.json"]) {
      const path = join(entry, name);
      const whole = await Deno.readFile(path);
      for (const damage of damages) {
        await damage(path);
        deepEqual(await decode(), expected, name);
        deepEqual(await Deno.readFile(path), whole);
      }
    }
  }));

Deno.test("where nothing can be kept, graphs are opened all the same", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(folder, "no folder");
    const bundle = await realBundle();
    const path = join(bundle.folder, graphPath(bundle.manifest, "mixed_features", sessionSettings));
    await (await createCachedSession(path, sessionSettings, folder, "key")).release();
    equal(await Deno.readTextFile(folder), "no folder");
  }));

Deno.test("an entry is of one graph and its weights", async () => {
  const { manifest } = await realBundle();
  const path = graphPath(manifest, "unet", { provider: "cpu", threads: 2 });
  const key = cacheKey({ manifest }, path);
  const changed = (file: string) => {
    const files = { ...manifest.files, [file]: { ...manifest.files[file]!, sha256: "0".repeat(64) } };
    return cacheKey({ manifest: { ...manifest, files } }, path);
  };
  notEqual(changed("unet/model.safetensors"), key);
  notEqual(changed(path), key);
  equal(changed("vae_decoder/model.onnx"), key);
  notEqual(cacheKey({ manifest }, manifest.graphs.unet), key);
});
