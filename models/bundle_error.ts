/** Why a bundle cannot be served; stable, for logs and `doctor`. */
export type BundleErrorCode =
  | "manifest_missing"
  | "manifest_invalid"
  | "manifest_digest_wrong"
  | "file_missing"
  | "file_size_wrong"
  | "file_digest_wrong"
  | "file_invalid"
  | "bundle_unreachable"
  | "graph_unreadable"
  | "graph_mismatch"
  | "provider_unavailable";

/**
 * A bundle that cannot be served, with the file at fault and what to do about it in the message.
 *
 * @example
 * ```ts
 * throw new BundleError("file_missing", "unet/model.safetensors is missing: fetch the bundle again");
 * ```
 */
export class BundleError extends Error {
  override readonly name = "BundleError";
  /**
   * @param code stable reason
   * @param message what is wrong, where, and what to do
   * @param options the error underneath, as in `Error`
   */
  constructor(readonly code: BundleErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}
