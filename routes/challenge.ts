/** The challenge of a refused request (RFC 6750, section 3). */

/**
 * Writes the value of `WWW-Authenticate`.
 *
 * @param attributes beside the realm; values must hold neither quotes nor backslashes
 * @returns the header's value
 */
export function challenge(attributes: Readonly<Record<string, string>>): string {
  const listed = Object.entries({ realm: "idadapter", ...attributes });
  return `Bearer ${listed.map(([name, value]) => `${name}="${value}"`).join(", ")}`;
}
