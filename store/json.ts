/** Values that survive JSON. */

/** Anything JSON can hold. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;

/** An object of {@linkcode JsonValue}s. */
export type JsonObject = { readonly [name: string]: JsonValue };
