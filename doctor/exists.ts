/** Whether there is anything at a path. */

/**
 * Looks for a file or folder.
 *
 * @param path of it
 * @returns false when there is none, or what should hold it is no folder; true when it may only not be looked at
 */
export async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(
    () => true,
    (error) => !(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory),
  );
}
