/**
 * The inference worker's entry: owns every ONNX Runtime session, because running one blocks its thread.
 *
 * Started by `client.ts` as a module worker; speaks `messages.ts`.
 */

import { InferenceDesk } from "./inference_desk.ts";
import type { WorkerRequest, WorkerResponse } from "./messages.ts";

/** The part of a worker's global scope used here; the compiler's default library knows windows only. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerRequest>) => void) | null;
  postMessage(response: WorkerResponse, transfer: ArrayBuffer[]): void;
}

const scope = globalThis as unknown as WorkerScope;
const desk = new InferenceDesk((response, transfer) => scope.postMessage(response, transfer));
scope.onmessage = ({ data }) => desk.receive(data);
