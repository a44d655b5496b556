/** What the choice of a batch looks at. */
export interface Seat {
  /** which generation the picture belongs to; smaller ones came first */
  readonly generation: number;
  /** pictures of different shapes cannot share a run of the UNet */
  readonly shape: string;
  /** number of the last batch the picture was in; -1 before its first */
  readonly lastBatch: number;
}

/**
 * Chooses who advances in the next step.
 *
 * All pictures of a batch have one shape: that of the picture that has waited longest. Generations take places in
 * turn, the oldest first, each with the first of its pictures that is left, until the batch is full: however many
 * pictures a generation asked for, it cannot keep another one out.
 *
 * @param seats all pictures that can advance, each generation's in their order
 * @param limit places in the batch, 1 or more
 * @returns those that advance
 *
 * @example
 * ```ts
 * chooseBatch(seats, 8); // of two generations with 8 pictures each, 4 and 4
 * ```
 */
export function chooseBatch<S extends Seat>(seats: readonly S[], limit: number): S[] {
  const [longest] = seats.toSorted((one, other) => one.lastBatch - other.lastBatch);
  if (longest === undefined) return [];
  const fitting = seats.filter(({ shape }) => shape === longest.shape);
  const generations = [...Map.groupBy(fitting, ({ generation }) => generation)]
    .sort(([one], [other]) => one - other)
    .map(([, pictures]) => pictures);
  const chosen: S[] = [];
  for (let round = 0; chosen.length < limit && round < fitting.length; round++) {
    for (const pictures of generations) {
      const picture = pictures[round];
      if (picture !== undefined && chosen.length < limit) chosen.push(picture);
    }
  }
  // Together, a generation's pictures make the same batch from step to step, whose fixed rows are kept.
  return fitting.filter((seat) => chosen.includes(seat));
}
