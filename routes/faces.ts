/** `POST /v1/faces` */

import { Hono } from "hono";
import type { z } from "zod";
import { FaceFormSchema, type FaceReportBody, FaceRequestSchema } from "../openapi/face.ts";
import { checkFace } from "../openapi/operations.ts";
import type { FaceReport } from "../pipeline/protocol.ts";
import { type AppEnv, type AppOptions, requireModel } from "./app_options.ts";
import { admit } from "./middleware/admit.ts";
import { limitBodySize } from "./middleware/body_size.ts";
import { accountOf } from "./generation_request.ts";
import { ProblemError } from "./problem_error.ts";
import { type BodySchemas, decodePhotoText, readBody } from "./request_body.ts";

const faceBody = {
  json: FaceRequestSchema,
  form: FaceFormSchema,
  formFields: {},
} as const satisfies BodySchemas<z.ZodType, z.ZodType>;

/** Tenths of a pixel are more than a detector knows. */
const pixels = (value: number) => Math.round(value * 10) / 10;

function toBody(report: FaceReport): FaceReportBody {
  return {
    width: report.width,
    height: report.height,
    faces: report.faces.map(({ box, score, landmarks }) => ({
      box: { x: pixels(box.x), y: pixels(box.y), width: pixels(box.width), height: pixels(box.height) },
      score: Math.round(score * 10_000) / 10_000,
      landmarks: landmarks.map(([x, y]): [number, number] => [pixels(x), pixels(y)]),
    })),
    usable: report.usable,
    problems: report.problems.map(({ code, message, blocking }) => ({ code, message, blocking })),
  };
}

/** Checks under way at a time, of an account and of all: they cost nothing, and each waits for those before. */
const most = { account: 16, all: 64 };

/** Counts checks under way. */
class Checks {
  readonly #underWay = new Map<string, number>();
  #all = 0;

  /**
   * Does one.
   *
   * @throws {ProblemError} `rate_limit_exceeded`: too many are under way already
   */
  async run<T>(account: string, check: () => Promise<T>): Promise<T> {
    const own = this.#underWay.get(account) ?? 0;
    if (own >= most.account || this.#all >= most.all) {
      throw new ProblemError("rate_limit_exceeded", "Too many photos are being checked at this moment.", {
        details: { limit: own >= most.account ? most.account : most.all },
      });
    }
    this.#underWay.set(account, own + 1);
    this.#all++;
    try {
      return await check();
    } finally {
      this.#all--;
      const left = this.#underWay.get(account)! - 1;
      if (left > 0) this.#underWay.set(account, left);
      else this.#underWay.delete(account);
    }
  }
}

/**
 * The resource that judges photos.
 *
 * @param options of the app
 * @returns a Hono app with one route
 */
export function faces(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const checks = new Checks();
  app.post(
    checkFace.path,
    admit(options, "faces:read"),
    limitBodySize(options.maxBodyBytes),
    async (c) => {
      const { inference } = requireModel(options);
      const request = await readBody(c, faceBody);
      const photo = request.kind === "json"
        ? decodePhotoText(request.body.image, "/image")
        : request.body.image;
      c.header("Cache-Control", "no-store");
      const { signal } = c.req.raw;
      return c.json(toBody(await checks.run(accountOf(c), () => inference.checkFace(photo, signal))));
    },
  );
  return app;
}
