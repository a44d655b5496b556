/** What tokens may allow, and how operations ask for it. */

/** What a token may allow, the words of its `scope` claim (RFC 8693, 4.2). */
export const scopes = {
  "generations:write": "make portraits, cancel and delete them",
  "generations:read": "watch generations and get their images",
  "account:read": "see balance, usage and prices",
  "accounts:write": "for the operator: give any account credits, or take them",
  "webhooks:write": "add, change and remove webhook endpoints, see and repeat messages",
  "keys:write": "add, list and revoke the account's own keys",
  "faces:read": "check photos",
  "models:read": "list models",
} as const;

/** One word of a token's `scope`. */
export type Scope = keyof typeof scopes;

/** What no account can hand on with a key of its own: the operator's scope, and that of keys themselves. */
const notDelegable: readonly string[] = ["accounts:write", "keys:write"] satisfies Scope[];

/**
 * Tells whether tokens that an account signs itself may be allowed something.
 *
 * @param word of a scope
 * @returns false for what is the operator's or the identity provider's alone, and for what is no scope
 */
export function isDelegable(word: string): word is Scope {
  return Object.hasOwn(scopes, word) && !notDelegable.includes(word);
}

/** Name of the security scheme in the document. */
export const securityScheme = "bearer_token";

/**
 * The `security` of an operation.
 *
 * @param scope what a token must allow
 * @returns the requirement, as OpenAPI writes it
 */
export function needs(scope: Scope): Record<string, string[]>[] {
  return [{ [securityScheme]: [scope] }];
}
