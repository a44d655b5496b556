/** Of several askings of one kind only the latest counts. */

/**
 * Gives each asking a signal; the next asking aborts it.
 *
 * @returns {() => AbortSignal} called when an asking begins
 */
export function latest() {
  let controller = new AbortController();
  return () => {
    controller.abort();
    controller = new AbortController();
    return controller.signal;
  };
}
