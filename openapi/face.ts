/** What `POST /v1/faces` takes and gives. */

import { z } from "@hono/zod-openapi";
import type { FaceReport } from "../pipeline/protocol.ts";
import { EncodedPhotoSchema, UploadedPhotoSchema } from "./generation.ts";
import { openEnum } from "./open_enum.ts";

/** A photo to check, in JSON. */
export const FaceRequestSchema = z.strictObject({ image: EncodedPhotoSchema }).openapi("FaceRequest");

/** A photo to check, in a form. */
export const FaceFormSchema = z.strictObject({ image: UploadedPhotoSchema }).openapi("FaceForm");

const problemCodes = [
  "face_not_found",
  "multiple_faces",
  "face_too_small",
  "face_turned_away",
  "face_cut_off",
  "blurred",
] as const satisfies readonly FaceReport["problems"][number]["code"][];

const pixels = z.number().describe("pixels of the upright photo");

/** x and y. A list of schemas under `items`, as a tuple would be written, is no schema of OpenAPI 3.1. */
const pointSchema = z.tuple([z.number(), z.number()]).openapi({
  type: "array",
  items: { type: "number" },
  minItems: 2,
  maxItems: 2,
});

/** One face of a photo. */
const FaceSchema = z.strictObject({
  box: z.strictObject({ x: pixels, y: pixels, width: pixels, height: pixels }).openapi("FaceBox"),
  score: z.number().min(0).max(1).describe("the detector's confidence"),
  landmarks: z.array(pointSchema).length(5).describe(
    "x and y in pixels of right eye, left eye, nose, right and left mouth corner; the person's own right and left",
  ),
}).openapi("Face");

/** One thing to improve about a photo. */
const FaceProblemSchema = z.strictObject({
  code: openEnum(problemCodes, "codes may be added: show the `message` of one you do not know"),
  message: z.string(),
  blocking: z.boolean().describe("true when POST /v1/generations would refuse the photo; false for advice"),
}).openapi("FaceProblem");

/** Whether a photo will do as a reference. */
export const FaceReportSchema = z.strictObject({
  width: z.int().min(1).describe("of the photo, upright as its EXIF orientation says"),
  height: z.int().min(1),
  faces: z.array(FaceSchema),
  usable: z.boolean().describe("true when `problems` is empty"),
  problems: z.array(FaceProblemSchema),
}).openapi("FaceReport");

/** A face report as it is sent, see {@linkcode FaceReportSchema}. */
export type FaceReportBody = z.infer<typeof FaceReportSchema>;
