import { readFile } from "node:fs/promises";
import { z } from "zod";
import { BundleError } from "./bundle_error.ts";

/**
 * Reads a file of a bundle, and names it where it is not what it should be.
 *
 * @param path of the file
 * @param parse makes of its text what it stands for; whatever it throws is why it does not
 * @returns what `parse` gave
 * @throws {BundleError} `file_missing` when it cannot be read, `file_invalid` when it cannot be parsed
 *
 * @example
 * ```ts
 * const config = await readBundleFile("models/default/scheduler/scheduler_config.json", parseSchedulerConfig);
 * ```
 */
export async function readBundleFile<T>(path: string, parse: (text: string) => T): Promise<T> {
  const text = await readFile(path, "utf8").catch((error) => {
    throw new BundleError("file_missing", `${path} cannot be read: fetch the bundle again`, { cause: error });
  });
  try {
    return parse(text);
  } catch (error) {
    const message = `${path} is not what this release reads: ${reasonOf(error)}: export the bundle again`;
    throw new BundleError("file_invalid", message, { cause: error });
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof z.ZodError) return listFaults(error);
  return error instanceof Error ? error.message : String(error);
}

/**
 * What does not fit a schema, in one line.
 *
 * @param error of a schema
 * @returns every field at fault and why
 *
 * @example
 * ```ts
 * listFaults(manifestSchema.safeParse({}).error!); // "schema_version: Invalid input …; name: …"
 * ```
 */
export function listFaults(error: z.ZodError): string {
  return error.issues.map(({ path, message }) => `${path.join(".") || "all of it"}: ${message}`).join("; ");
}
