/** Shows how far a generation is: a bar on a terminal, plain lines in a log. */

import type { GenerateProgress } from "../pipeline/protocol.ts";

/** Follows one generation. */
export interface ProgressView {
  /** Shows the progress made. */
  show(progress: GenerateProgress): void;
  /** Clears the bar, so that what follows starts on a line of its own. */
  end(): void;
}

const width = 30;
const eraseLine = "\r\x1b[K";

function share({ step, steps }: GenerateProgress): number {
  return steps === 0 ? 0 : step / steps;
}

function label({ stage, step, steps }: GenerateProgress): string {
  return stage === "denoise" ? `denoise ${step}/${steps}` : stage;
}

function createBar(write: (text: string) => void): ProgressView {
  return {
    show: (progress) => {
      const filled = Math.round(width * share(progress));
      write(`${eraseLine}[${"█".repeat(filled)}${"░".repeat(width - filled)}] ${label(progress)}`);
    },
    end: () => write(eraseLine),
  };
}

/** One line a stage and a quarter of the steps. */
function createLines(write: (text: string) => void): ProgressView {
  let shown = "";
  return {
    show: (progress) => {
      const mark = `${progress.stage} ${Math.floor(4 * share(progress))}`;
      if (mark !== shown) write(`  ${label(progress)}\n`);
      shown = mark;
    },
    end: () => {},
  };
}

/**
 * Makes a view of a generation's progress.
 *
 * @param write takes text for standard output
 * @param isTerminal whether a line can be drawn over
 * @returns the view
 *
 * @example
 * ```ts
 * const view = createProgressView((text) => process.stdout.write(text), Deno.stdout.isTerminal());
 * view.show({ stage: "denoise", step: 7, steps: 20 });
 * view.end();
 * ```
 */
export function createProgressView(write: (text: string) => void, isTerminal: boolean): ProgressView {
  return isTerminal ? createBar(write) : createLines(write);
}
