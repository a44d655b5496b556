import type { GraphName } from "../models/manifest.ts";
import type { Measurements, Tick } from "./messages.ts";

/**
 * Gathers what the worker measures and tells it with each step of the batch: one message a step instead of one a graph.
 *
 * @example
 * ```ts
 * const log = new MeasurementLog((measurements) => post({ type: "measured", measurements }, []));
 * log.addRun("unet", 0.04);
 * log.addTick({ pictures: 3, seconds: 0.041 });
 * ```
 */
export class MeasurementLog {
  readonly #tell: (measurements: Measurements) => void;
  #graphs: { graph: GraphName; seconds: number }[] = [];

  /** @param tell takes what was gathered since the last time */
  constructor(tell: (measurements: Measurements) => void) {
    this.#tell = tell;
  }

  /** A graph has run. */
  addRun(graph: GraphName, seconds: number): void {
    this.#graphs.push({ graph, seconds });
  }

  /** The batch has taken a step. */
  addTick(tick: Tick): void {
    this.#flush([tick]);
  }

  /** Tells what was gathered, for there may be no step for a while. */
  flush(): void {
    if (this.#graphs.length > 0) this.#flush([]);
  }

  /** Forgets what was gathered. */
  clear(): void {
    this.#graphs = [];
  }

  #flush(ticks: readonly Tick[]): void {
    const graphs = this.#graphs;
    this.#graphs = [];
    this.#tell({ ticks, graphs });
  }
}
