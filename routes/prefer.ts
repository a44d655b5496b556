/** `Prefer` (RFC 7240), as far as this service knows preferences. */

/** How a caller would like to be answered. */
export interface Preferences {
  /** not to wait for the result... */
  readonly respondAsync: boolean;
  /** ...unless it comes within so many seconds */
  readonly waitSeconds: number;
}

/** Longer waits are cut to this: proxies rarely hold a silent connection for longer. */
const LONGEST_WAIT = 300;

/** RFC 9110, 5.6.2. */
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Name and value of one preference, without its parameters. */
function readPreference(part: string): [name: string, value: string] {
  const [preference = ""] = part.split(";", 1);
  const [name = "", ...value] = preference.split("=");
  return [name.trim().toLowerCase(), value.join("=").trim().replace(/^"|"$/g, "")];
}

/**
 * Reads the header; what is not understood is passed over, as the RFC asks.
 *
 * @param header as it was sent
 * @returns what was preferred
 *
 * @example
 * ```ts
 * readPreferences("respond-async, wait=10"); // { respondAsync: true, waitSeconds: 10 }
 * ```
 */
export function readPreferences(header = ""): Preferences {
  const values = new Map<string, string>();
  for (const part of header.split(",")) {
    const [name, value] = readPreference(part);
    // of one that is sent twice the first counts
    if (token.test(name) && !values.has(name)) values.set(name, value);
  }
  const wait = values.get("wait") ?? "";
  return {
    respondAsync: values.has("respond-async"),
    waitSeconds: /^\d{1,9}$/.test(wait) ? Math.min(Number(wait), LONGEST_WAIT) : 0,
  };
}
