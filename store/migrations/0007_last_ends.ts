/** How long the last generations took is asked by everybody whom a full queue sends away. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  "create index generations_by_success on generations (finished_at) where state = 'succeeded'",
];
