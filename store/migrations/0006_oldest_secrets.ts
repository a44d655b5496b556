/** A webhook endpoint's secret outlives two rotations in a row. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  "alter table webhook_endpoints add column oldest_secret bytea, add column oldest_until timestamptz",
];
