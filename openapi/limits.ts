/** Bounds every model shares; a bundle may only narrow them. They stand in the contract and in `GET /v1/models`. */
export const limits = {
  /** the contract's own ceiling; the bundle's `max_reference_images` is the real one */
  referenceImages: { min: 1, max: 16 },
  numImages: { min: 1, max: 8 },
  numInferenceSteps: { min: 1, max: 100 },
  guidanceScale: { min: 1, max: 20 },
  identityGuidanceScale: { min: 0, max: 20 },
  /** timesteps */
  earlyGuidanceUntil: { min: 0, max: 1000 },
  guidanceRescale: { min: 0, max: 1 },
  identityStrength: { min: 0, max: 2 },
  poseVariation: { min: 0, max: 20 },
  /** denoising steps; a model without a graph for it takes 1 alone */
  cacheInterval: { min: 1, max: 10 },
  /** denoising steps; 0 for no previews */
  previewInterval: { min: 0, max: 100 },
  /** image i uses seed + i, which must still be an unsigned 32-bit number for i = 7 */
  seed: { min: 0, max: 4_294_967_287 },
  /** characters; the tokenizer's own limit is tighter and answers with the same problem */
  prompt: { max: 1000 },
} as const;
