import assert from "node:assert/strict";
import { join } from "node:path";
import { BundleError } from "../../models/bundle_error.ts";
import { type Bundle, loadManifest } from "../../models/manifest.ts";
import { loadUnet } from "../../models/unet.ts";
import { bundleFolder, sessionSettings } from "../real_bundle.ts";

/** Runs `test` with the real bundle's UNet, in a folder that may be changed. */
async function withUnetFiles(test: (bundle: Bundle) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(folder, "unet"));
    for await (const { name } of Deno.readDir(join(bundleFolder, "unet"))) {
      await Deno.copyFile(join(bundleFolder, "unet", name), join(folder, "unet", name));
    }
    await test({ folder, manifest: await loadManifest(bundleFolder) });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("graphs of cached steps that could not be loaded are loaded when next asked for, and once", () =>
  withUnetFiles(async ({ folder, manifest }) => {
    const shallow = manifest.graphs.unet_shallow!;
    const { cachedUnet } = await loadUnet({ folder, manifest }, sessionSettings);
    await Deno.rename(join(folder, shallow), join(folder, "away"));
    await assert.rejects(cachedUnet!(), { name: "BundleError" });
    await Deno.rename(join(folder, "away"), join(folder, shallow));
    assert.equal(await cachedUnet!(), await cachedUnet!());
  }));

Deno.test("the part for cached steps is not taken from weights that were replaced after the start, nor kept", () =>
  withUnetFiles(async ({ folder, manifest }) => {
    const cacheFolder = join(folder, "graphs");
    const settings = { ...sessionSettings, cacheFolder };
    const { cachedUnet } = await loadUnet({ folder, manifest }, settings);
    const entries = () => [...Deno.readDirSync(cacheFolder)].length;
    assert.equal(entries(), 1);
    const weights = join(folder, "unet/model.safetensors");
    const bytes = await Deno.readFile(weights);
    await Deno.chmod(weights, 0o600);
    await Deno.writeFile(weights, bytes.with(-1, bytes.at(-1)! ^ 1));
    await assert.rejects(cachedUnet!(), (error) => {
      assert.ok(error instanceof BundleError);
      assert.equal(error.code, "file_digest_wrong");
      assert.match(error.message, /model\.safetensors.*start it again/);
      return true;
    });
    assert.equal(entries(), 1);
    await Deno.writeFile(weights, bytes);
    await cachedUnet!();
    assert.equal(entries(), 2);
  }));
