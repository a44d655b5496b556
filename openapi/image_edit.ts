/** What `POST /v1/images/edits` takes and gives: OpenAI's names, so that clients written for it can call it. */

import { z } from "@hono/zod-openapi";
import { GenerationFormSchema, OutputFormatSchema, UploadedPhotoSchema, wide } from "./generation.ts";
import { limits } from "./limits.ts";

const {
  prompt,
  class_noun,
  negative_prompt,
  num_inference_steps,
  guidance_scale,
  identity_strength,
  scheduler,
} = GenerationFormSchema.shape;

/** How much work goes into a picture, in OpenAI's words. */
export const QualitySchema = z.enum(["auto", "low", "medium", "high", "standard"]);

/** How much of the person is kept, in OpenAI's words. */
export const InputFidelitySchema = z.enum(["high", "low"]);

/** An edit asked for with a form, as OpenAI's clients send it. */
export const ImageEditFormSchema = z.strictObject({
  image: z.array(UploadedPhotoSchema).min(limits.referenceImages.min).max(limits.referenceImages.max)
    .describe(
      "photos of one person, one face each; `image` or `image[]`, repeated for several",
    ),
  prompt,
  model: z.string().max(128).optional().describe("an `id` of GET /v1/models; default the one served"),
  n: z.int().min(limits.numImages.min).max(limits.numImages.max).optional().describe(
    "portraits to make; default 1",
  ),
  size: z.string().max(16).optional()
    .describe("`auto`, or the model's own size, `image_size` of GET /v1/models twice, for example `128x128`"),
  quality: QualitySchema.optional().describe(
    "`low` takes half of the model's own denoising steps, `high` twice as many; the price follows",
  ),
  output_format: OutputFormatSchema.optional(),
  output_compression: z.int().min(100).max(100).optional()
    .describe("100: pictures are always written in their best quality"),
  response_format: z.enum(["b64_json", "url"]).optional().describe(
    "default b64_json; an address under `url` is fetched with a token of the account that has `generations:read`",
  ),
  background: z.enum(["auto", "opaque"]).optional().describe("portraits are never transparent"),
  input_fidelity: InputFidelitySchema.optional().describe(
    "`low` halves the model's own `identity_strength`; default high",
  ),
  stream: z.boolean().optional().describe("true answers with server-sent events"),
  partial_images: z.int().min(0).max(3).optional().describe(
    "previews of each portrait in the stream; default 0",
  ),
  user: z.string().max(512).optional().describe("taken, and neither used nor kept"),
  safety_identifier: z.string().max(512).optional().describe("taken, and neither used nor kept"),
  class_noun: class_noun.optional().describe(
    "not OpenAI's: what the person is; default the first of the model's `class_nouns` in the prompt, else `person`",
  ),
  negative_prompt: negative_prompt.describe("not OpenAI's: what to keep out"),
  num_inference_steps: num_inference_steps.describe("not OpenAI's: denoising steps, goes before `quality`"),
  guidance_scale: guidance_scale.describe("not OpenAI's: see POST /v1/generations"),
  identity_strength: identity_strength.describe(
    "not OpenAI's: see POST /v1/generations, goes before `input_fidelity`",
  ),
  scheduler: scheduler.describe("not OpenAI's: see POST /v1/generations"),
  seed: z.int().min(limits.seed.min).max(limits.seed.max).optional().openapi(wide).describe(
    "not OpenAI's: the same seed gives the same pictures",
  ),
}).openapi("ImageEditForm");

/** An edit that is asked for, see {@linkcode ImageEditFormSchema}. */
export type ImageEdit = z.infer<typeof ImageEditFormSchema>;

const tokens = z.int().min(0).describe("always 0: prices are in credits, see GET /v1/account");

/** OpenAI's clients read tokens; there are none here. */
const TokenUsageSchema = z.strictObject({
  input_tokens: tokens,
  output_tokens: tokens,
  total_tokens: tokens,
  input_tokens_details: z.strictObject({ image_tokens: tokens, text_tokens: tokens }),
}).openapi("TokenUsage");

/** What is told of all pictures of an edit. */
const picture = {
  background: z.literal("opaque"),
  output_format: OutputFormatSchema,
  quality: QualitySchema,
  size: z.string().describe("for example `128x128`"),
};

const base64 = z.string().describe("the image file, base64");

/** The finished pictures of an edit. */
export const ImagesResponseSchema = z.strictObject({
  created: z.int().describe("Unix time in seconds"),
  data: z.array(z.strictObject({
    b64_json: base64.optional(),
    url: z.string().optional().describe("where the image file is, for as long as it is kept"),
  })),
  ...picture,
  usage: TokenUsageSchema,
}).openapi("ImagesResponse");

/** The finished pictures of an edit, see {@linkcode ImagesResponseSchema}. */
export type ImagesResponse = z.infer<typeof ImagesResponseSchema>;

/** Data of an `image_edit.partial_image` event. */
export const ImageEditPartialImageSchema = z.strictObject({
  type: z.literal("image_edit.partial_image"),
  partial_image_index: z.int().min(0).describe("counts the previews of this stream"),
  b64_json: base64,
  created_at: z.int().describe("Unix time in seconds"),
  ...picture,
}).openapi("ImageEditPartialImage");

/** Data of an `image_edit.partial_image` event, see {@linkcode ImageEditPartialImageSchema}. */
export type ImageEditPartialImage = z.infer<typeof ImageEditPartialImageSchema>;

/** Data of an `image_edit.completed` event, one for each picture. */
export const ImageEditCompletedSchema = z.strictObject({
  type: z.literal("image_edit.completed"),
  b64_json: base64,
  created_at: z.int().describe("Unix time in seconds"),
  ...picture,
  usage: TokenUsageSchema,
}).openapi("ImageEditCompleted");

/** Data of an `image_edit.completed` event, see {@linkcode ImageEditCompletedSchema}. */
export type ImageEditCompleted = z.infer<typeof ImageEditCompletedSchema>;
