/** The machine: room on the disk, rights on the files, a free port. */

import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Config } from "../config.ts";
import { exists } from "./exists.ts";
import { failed, type Finding, fine, messageOf, warning } from "./finding.ts";

/** Bytes that should be free where state is kept. */
const freeBytes = { failed: 100e6, warning: 1e9 };

/** The folder itself, or what it would be made in. */
async function nearestExisting(path: string): Promise<string> {
  return await exists(path) || dirname(path) === path ? path : await nearestExisting(dirname(path));
}

/**
 * Checks that there is room for state.
 *
 * @param folder `STATE_DIR`
 * @param limits bytes that should be free
 * @returns a warning below 1 GB, a failure below 100 MB
 */
export async function checkDisk(folder: string, limits: typeof freeBytes = freeBytes): Promise<Finding> {
  let free: number;
  try {
    const { bavail, bsize } = await statfs(await nearestExisting(folder));
    free = bavail * bsize;
  } catch (error) {
    return failed("disk", `${folder}: ${messageOf(error)}`, "Set another STATE_DIR.");
  }
  const detail = `${(free / 1e9).toFixed(1)} GB free for ${folder}`;
  const remedy = "Free some, or have STATE_DIR name a folder on another disk.";
  if (free < limits.failed) return failed("disk", detail, remedy);
  return free < limits.warning ? warning("disk", detail, remedy) : fine("disk", detail);
}

/**
 * Checks that state can be written, and that keys are this user's alone.
 *
 * @param folder `STATE_DIR`
 * @returns a failure when nothing can be written there, a warning when others may read a key
 */
export async function checkPermissions(folder: string): Promise<Finding> {
  const place = await nearestExisting(folder);
  try {
    await Deno.remove(await Deno.makeTempFile({ dir: place }));
  } catch (error) {
    const remedy = "Give this user the right to write there, or set another STATE_DIR.";
    return failed("permissions", `${folder} cannot be written: ${messageOf(error)}`, remedy);
  }
  const open: string[] = [];
  for (const name of ["development_key.json", "encryption_key"]) {
    const path = join(folder, name);
    const mode = await Deno.stat(path).then(({ mode }) => mode ?? 0, () => 0);
    if ((mode & 0o077) !== 0) open.push(path);
  }
  return open.length > 0
    ? warning("permissions", `others may read ${open.join(", ")}`, `chmod 600 ${open.join(" ")}`)
    : fine("permissions", `${folder} can be written, keys are this user's alone`);
}

async function answersAsService(host: string, port: number): Promise<boolean> {
  try {
    const name = host === "0.0.0.0" ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host;
    const response = await fetch(`http://${name}:${port}/healthz`, { signal: AbortSignal.timeout(2_000) });
    return (await response.json()).status === "ok";
  } catch {
    return false;
  }
}

/**
 * Checks that the service could listen, or does.
 *
 * @param config of the service
 * @returns a failure when somebody else has the port, or the address is not this machine's
 */
export async function checkPort({ host, port }: Config): Promise<Finding> {
  try {
    Deno.listen({ hostname: host, port }).close();
    return fine("port", `${host}:${port} is free`);
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      return await answersAsService(host, port)
        ? fine("port", `the service listens on ${host}:${port}`)
        : failed("port", `another process listens on ${host}:${port}`, "Stop it, or set another PORT.");
    }
    const remedy = "Have HOST name an address of this machine, and PORT one this user may listen on.";
    return failed("port", `${host}:${port}: ${messageOf(error)}`, remedy);
  }
}
