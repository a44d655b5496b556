/** Traces of generations: a span for each, with a child for each stage. */

import { type Context, context, type Span, SpanStatusCode, trace, type Tracer } from "@opentelemetry/api";
import { type Generation, type GenerationEvent, isFinal } from "../jobs/generation.ts";

/** The spans of one generation. */
interface OpenSpans {
  readonly whole: Span;
  readonly parent: Context;
  stage: { readonly name: string; readonly span: Span };
}

/**
 * Follows generations with spans. Where nothing listens (`OTEL_DENO` is not set) they cost nothing.
 *
 * The span of a generation is a child of whatever span is active when it is taken on: that of its HTTP request.
 *
 * @param tracer default that of the process
 * @returns a function for the registry's `onEvent`
 *
 * @example
 * ```ts
 * const registry = new GenerationRegistry({ ...limits, onEvent: traceGenerations() });
 * ```
 */
export function traceGenerations(
  tracer: Tracer = trace.getTracer("idadapter"),
): (generation: Generation, event: GenerationEvent) => void {
  const open = new Map<string, OpenSpans>();

  const begin = ({ id, model, numImages, numInferenceSteps }: Generation) => {
    const attributes = {
      "idadapter.generation": id,
      "idadapter.model": model,
      "idadapter.images": numImages,
      "idadapter.steps": numInferenceSteps,
    };
    const whole = tracer.startSpan("generation", { attributes }, context.active());
    const parent = trace.setSpan(context.active(), whole);
    open.set(id, { whole, parent, stage: { name: "queue", span: tracer.startSpan("queue", {}, parent) } });
  };

  const enter = (spans: OpenSpans, name: string) => {
    if (spans.stage.name === name) return;
    spans.stage.span.end();
    spans.stage = { name, span: tracer.startSpan(name, {}, spans.parent) };
  };

  const end = (spans: OpenSpans, { id, status, failure }: Generation) => {
    spans.stage.span.end();
    spans.whole.setAttribute("idadapter.status", status);
    if (failure !== null) {
      spans.whole.setAttribute("error.type", failure.code);
      if (status === "failed") spans.whole.setStatus({ code: SpanStatusCode.ERROR });
    }
    spans.whole.end();
    open.delete(id);
  };

  return (generation, event) => {
    if (event.type === "queued") begin(generation);
    const spans = open.get(generation.id);
    if (spans === undefined) return;
    if (event.type === "progress") enter(spans, event.progress.stage);
    if (isFinal(generation)) end(spans, generation);
  };
}
