import assert from "node:assert/strict";
import { join } from "node:path";
import { loadManifest } from "../../models/manifest.ts";
import { loadUnet } from "../../models/unet.ts";
import { bundleFolder, sessionSettings } from "../real_bundle.ts";

Deno.test("graphs of cached steps that could not be loaded are loaded when next asked for, and once", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const manifest = await loadManifest(bundleFolder);
    const shallow = manifest.graphs.unet_shallow!;
    await Deno.mkdir(join(folder, "unet"));
    for await (const { name } of Deno.readDir(join(bundleFolder, "unet"))) {
      await Deno.copyFile(join(bundleFolder, "unet", name), join(folder, "unet", name));
    }
    const { cachedUnet } = await loadUnet({ folder, manifest }, sessionSettings);
    await Deno.rename(join(folder, shallow), join(folder, "away"));
    await assert.rejects(cachedUnet!(), { name: "BundleError" });
    await Deno.rename(join(folder, "away"), join(folder, shallow));
    assert.equal(await cachedUnet!(), await cachedUnet!());
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
