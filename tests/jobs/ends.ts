/** Has a test fail, rather than hang, when something never ends. */

/** Far more than anything here takes, and far less than whatever hangs. */
export const PATIENCE_MS = 60_000;

/**
 * Waits.
 *
 * @param work that ends
 * @returns what it resolves to
 * @throws when it hangs, or whatever it throws
 */
export async function ends<T>(work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("it hangs")), PATIENCE_MS);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
