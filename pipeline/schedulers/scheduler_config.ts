/** diffusers' `scheduler_config.json`, as far as the schedulers here read it. */

import { z } from "zod";

/** A switch of diffusers that no scheduler here knows: read when off, refused when on. */
const unsupported = (what: string) =>
  z.literal(false, { error: `${what} is not supported by this service's schedulers` }).nullish();

/** A JSON null stands for the default, as in diffusers' own files. */
const flag = (standard: boolean) => z.boolean().nullish().transform((value) => value ?? standard);

/**
 * The fields of diffusers' `scheduler_config.json`. Absent fields take diffusers' defaults, with one difference:
 * `clip_sample` defaults to false. Latents are not bounded by 1, and `StableDiffusionPipeline` turns clipping off for
 * the same reason; a file that says `true` is obeyed.
 *
 * `_class_name` is ignored: like `from_config`, any scheduler can be made from any scheduler's file, so `solver_order`,
 * `solver_type` and `algorithm_type` are not read either; the names `dpmpp_2m`, `dpmpp_2m_sde` and `unipc` say them.
 * Settings that would change the picture and that no scheduler here knows are refused, with the setting's name.
 */
export const schedulerConfigSchema = z.object({
  num_train_timesteps: z.int().min(2).max(100_000).default(1000),
  beta_start: z.number().positive().lt(1).default(0.0001),
  beta_end: z.number().positive().lt(1).default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("linear"),
  /** betas that replace the schedule, one a training timestep */
  trained_betas: z.array(z.number().min(0).max(1)).nullish(),
  prediction_type: z.enum(["epsilon", "v_prediction"]).default("epsilon"),
  /** absent: `leading` for DDIM, `linspace` for the others */
  timestep_spacing: z.enum(["leading", "linspace", "trailing"]).optional(),
  steps_offset: z.int().min(0).default(0),
  rescale_betas_zero_snr: flag(false),
  /** DDIM: the noise left after the last step is none (true) or that of timestep 0 (false) */
  set_alpha_to_one: flag(true),
  /** Euler, DPM-Solver++ and UniPC: the same choice by another name */
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
  use_karras_sigmas: flag(false),
  sigma_min: z.number().positive().nullish(),
  sigma_max: z.number().positive().nullish(),
  clip_sample: flag(false),
  clip_sample_range: z.number().positive().default(1),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
  /** DPM-Solver++: timesteps of a lower log-SNR than this are left out; null leaves out none */
  lambda_min_clipped: z.number().nullish(),
  predict_x0: z.literal(true, { error: "UniPC predicts the clean image here" }).nullish(),
  disable_corrector: z.array(z.int()).max(0, "UniPC corrects every step here").nullish(),
  thresholding: unsupported("thresholding"),
  use_exponential_sigmas: unsupported("use_exponential_sigmas"),
  use_beta_sigmas: unsupported("use_beta_sigmas"),
  use_lu_lambdas: unsupported("use_lu_lambdas"),
  use_flow_sigmas: unsupported("use_flow_sigmas"),
  use_dynamic_shifting: unsupported("use_dynamic_shifting"),
  interpolation_type: z.literal("linear").default("linear"),
  timestep_type: z.literal("discrete").default("discrete"),
}).refine(
  (config) => config.trained_betas == null || config.trained_betas.length === config.num_train_timesteps,
  {
    error: "trained_betas must hold one beta a training timestep",
    path: ["trained_betas"],
  },
);

/** A checked scheduler configuration with every default filled in. */
export type SchedulerConfig = z.infer<typeof schedulerConfigSchema>;

/**
 * Reads the text of a `scheduler_config.json`.
 *
 * diffusers writes DPM-Solver's `lambda_min_clipped` as `-Infinity`, which is not JSON: it is read as null.
 *
 * @throws {SyntaxError} when the text is not JSON
 * @throws {z.ZodError} when a field is out of range or asks for something unsupported
 */
export function parseSchedulerConfig(text: string): SchedulerConfig {
  return schedulerConfigSchema.parse(JSON.parse(text.replace(/(:\s*)-Infinity\b/g, "$1null")));
}
