/**
 * The catalogue of everything that can go wrong, as the caller sees it (RFC 9457). Codes are part of the contract:
 * they may be added, never renamed.
 */

import type { PipelineErrorCode } from "../pipeline/protocol.ts";

/** What is always true of a problem, whatever request caused it. */
export interface ProblemDefinition {
  /** HTTP status, RFC 9110 */
  readonly status: 400 | 401 | 402 | 403 | 404 | 405 | 409 | 413 | 415 | 416 | 422 | 429 | 500 | 503 | 504;
  /** short and the same for every occurrence */
  readonly title: string;
  /** what the caller can do about it */
  readonly remedy: string;
  /** `Retry-After`, where trying again may help; `details.retry_after_seconds` of an occurrence goes before it */
  readonly retryAfterSeconds?: number;
}

/** Every problem by its code; every {@linkcode PipelineErrorCode} is among them under its own name. */
export const problemCatalogue = {
  json_malformed: {
    status: 400,
    title: "The body is not JSON",
    remedy: "Send one JSON object in UTF-8, or multipart/form-data with its own Content-Type.",
  },
  multipart_malformed: {
    status: 400,
    title: "The body is not multipart/form-data",
    remedy: "Let your HTTP library write the form and its Content-Type, with the boundary it used.",
  },
  idempotency_key_invalid: {
    status: 400,
    title: "The Idempotency-Key is not one",
    remedy: "Send 1 to 255 printable ASCII characters, with or without quotes; a UUID does well.",
  },
  token_missing: {
    status: 401,
    title: "No token was sent",
    remedy: "Send `Authorization: Bearer <JWT>`. `deno task token` prints one for development.",
  },
  token_malformed: {
    status: 401,
    title: "The token is not a signed JWT",
    remedy: "Send the three dot-separated parts exactly as your identity provider issued them.",
  },
  token_expired: {
    status: 401,
    title: "The token has expired",
    remedy: "Get a new token and send the request again.",
  },
  token_not_yet_valid: {
    status: 401,
    title: "The token is not valid yet",
    remedy: "Wait until its `nbf`, or check the clock of the machine that issued it.",
  },
  token_issuer_wrong: {
    status: 401,
    title: "The token comes from another issuer",
    remedy: "Get a token from the issuer this service trusts (JWT_ISSUER).",
  },
  token_audience_wrong: {
    status: 401,
    title: "The token was made for another service",
    remedy: "Ask your identity provider for a token with this service's audience (JWT_AUDIENCE).",
  },
  token_signature_invalid: {
    status: 401,
    title: "The token's signature does not verify",
    remedy: "Send the token unchanged, and get it from the issuer whose keys this service uses.",
  },
  token_algorithm_not_allowed: {
    status: 401,
    title: "The token is signed with an algorithm that is not allowed",
    remedy: "Have tokens signed with one of the service's asymmetric algorithms (JWT_ALGORITHMS).",
  },
  token_key_unknown: {
    status: 401,
    title: "The token is signed with an unknown key",
    remedy: "Get a new token: the issuer may have retired the key that signed this one.",
  },
  token_claim_invalid: {
    status: 401,
    title: "The token lacks a claim or holds a wrong one",
    remedy: "Have tokens issued with `sub`, `exp`, `iss`, `aud` and `scope`.",
  },
  token_key_revoked: {
    status: 401,
    title: "The token is signed with a key that was revoked",
    remedy: "Sign with another of the account's keys; GET /v1/account/keys lists them.",
  },
  token_lifetime_too_long: {
    status: 401,
    title: "The token lives too long",
    remedy: "Sign tokens with an `exp` at most 3600 seconds after `iat`.",
  },
  token_used: {
    status: 401,
    title: "The token was good for one request and has been used",
    remedy: "Get a new token for each request, or sign tokens without `jti`.",
  },
  insufficient_credits: {
    status: 402,
    title: "The account has not enough credits",
    remedy:
      "Top the account up, or ask for fewer or smaller steps; `details` holds `price` and, unless the token is for one end user, `available`.",
  },
  scope_missing: {
    status: 403,
    title: "The token does not allow this operation",
    remedy: "Get a token whose `scope` holds the one named in `WWW-Authenticate`.",
  },
  token_of_end_user: {
    status: 403,
    title: "The token is for one end user",
    remedy: "Use a token without `end_user` for what is the whole account's: its balance and its webhooks.",
  },
  token_images_exceeded: {
    status: 403,
    title: "The token does not allow that many images",
    remedy: "Ask for at most `details.limit` images, or sign a token with a larger `max_images`.",
  },
  token_price_exceeded: {
    status: 403,
    title: "The token does not allow a price that high",
    remedy: "Ask for fewer images or steps, or sign a token with a larger `max_price`.",
  },
  not_found: {
    status: 404,
    title: "There is nothing at this address",
    remedy: "See GET /openapi.json or /docs for what there is.",
  },
  generation_not_found: {
    status: 404,
    title: "There is no such generation",
    remedy:
      "Check the id, and that the token is of the account that made it; finished ones are kept for a while only.",
  },
  webhook_not_found: {
    status: 404,
    title: "There is no such webhook endpoint or message",
    remedy: "See GET /v1/webhook_endpoints and GET /v1/webhook_messages.",
  },
  account_key_not_found: {
    status: 404,
    title: "There is no such account key",
    remedy: "See GET /v1/account/keys; a revoked key is not listed any more.",
  },
  image_not_found: {
    status: 404,
    title: "There is no such image",
    remedy: "Wait until the generation has succeeded; indices count from 0.",
  },
  method_not_allowed: {
    status: 405,
    title: "This address does not take that method",
    remedy: "Use a method that the `Allow` header names.",
  },
  canceled: {
    status: 409,
    title: "The generation was canceled",
    remedy: "Ask for it again if it was canceled by mistake; the same seed gives the same portraits.",
  },
  generation_finished: {
    status: 409,
    title: "The generation has finished already",
    remedy: "Get its result, or delete it.",
  },
  too_many_webhook_endpoints: {
    status: 409,
    title: "The account has too many webhook endpoints",
    remedy: "Delete one that is not needed any more.",
  },
  too_many_account_keys: {
    status: 409,
    title: "The account has too many keys",
    remedy: "Revoke one that is not needed any more.",
  },
  body_too_large: {
    status: 413,
    title: "The request is too large",
    remedy:
      "Send less, as `detail` says. Of photos 1024 pixels a side are plenty, and multipart is a quarter smaller than base64.",
  },
  media_type_unsupported: {
    status: 415,
    title: "The body's media type is not supported",
    remedy: "Set Content-Type to application/json or multipart/form-data.",
  },
  range_not_satisfiable: {
    status: 416,
    title: "The range begins after the end of the file",
    remedy:
      "Ask for bytes within the length that `Content-Range` tells, or for the whole file without `Range`.",
  },
  invalid_request: {
    status: 422,
    title: "Several fields are wrong in different ways",
    remedy: "See `errors`: each entry points at one field and says what it should hold.",
  },
  field_missing: {
    status: 422,
    title: "A required field is missing",
    remedy: "Send the field that `errors` points at.",
  },
  image_missing: {
    status: 422,
    title: "No photo was sent",
    remedy: "Send at least one photo: base64 or a data URL in JSON, a file in multipart/form-data.",
  },
  unknown_field: {
    status: 422,
    title: "A field is not known",
    remedy: "Check the spelling of the field that `errors` points at, or leave it out.",
  },
  wrong_type: {
    status: 422,
    title: "A field has the wrong type",
    remedy: "Send the type that `errors` names.",
  },
  out_of_range: {
    status: 422,
    title: "A field is out of range",
    remedy: "Send a value within the limits that `errors` and GET /v1/models name.",
  },
  invalid_value: {
    status: 422,
    title: "A field has a value that is not one of the choices",
    remedy: "Send one of the values that `errors` names.",
  },
  base64_invalid: {
    status: 422,
    title: "A photo is not valid base64",
    remedy: "Send the photo itself as base64 or a base64 data URL; addresses of photos are not fetched.",
  },
  model_unknown: {
    status: 422,
    title: "There is no such model here",
    remedy: "Leave `model` out, or send an `id` of GET /v1/models.",
  },
  image_not_decodable: {
    status: 422,
    title: "A photo cannot be decoded",
    remedy: "Send a JPEG, PNG, WebP or AVIF file that opens in an image viewer.",
  },
  image_truncated: {
    status: 422,
    title: "A photo is cut short",
    remedy: "Upload the whole file again.",
  },
  image_too_large: {
    status: 422,
    title: "A photo has too many pixels",
    remedy: "Scale the photo down; 1024 pixels a side are plenty.",
  },
  image_format_unsupported: {
    status: 422,
    title: "A photo's format is not supported",
    remedy: "Send JPEG, PNG, WebP or AVIF.",
  },
  image_format_heic: {
    status: 422,
    title: "A photo is HEIC",
    remedy:
      "Convert it to JPEG: an iPhone's picker does so when `accept` is `image/jpeg`, or Settings, Camera, " +
      "Formats, Most Compatible; a web page that can show the photo draws it on a canvas and sends that as JPEG.",
  },
  face_not_found: {
    status: 422,
    title: "No face was found in a photo",
    remedy: "Send a photo that shows the person's face from the front, upright and in good light.",
  },
  multiple_faces: {
    status: 422,
    title: "A photo shows more than one face",
    remedy: "Crop the photo to the one person who is meant.",
  },
  face_too_small: {
    status: 422,
    title: "The face in a photo is too small",
    remedy: "Send a closer or larger photo.",
  },
  too_many_reference_images: {
    status: 422,
    title: "Too many reference photos",
    remedy: "Send no more than `limits.max_reference_images` of GET /v1/models.",
  },
  class_noun_unknown: {
    status: 422,
    title: "The class noun is not known to the model",
    remedy: "Send one of the model's `class_nouns`, see GET /v1/models.",
  },
  cache_interval_unsupported: {
    status: 422,
    title: "The model cannot go on from earlier steps",
    remedy: "Leave `cache_interval` out, or choose a model whose `limits.cache_interval` allows it.",
  },
  prompt_empty: {
    status: 422,
    title: "The prompt is empty",
    remedy: "Describe the portrait in a few words, for example `a smiling woman`.",
  },
  prompt_too_long: {
    status: 422,
    title: "The prompt is too long",
    remedy: "Shorten the prompt; `details` or `errors` names the limit.",
  },
  scheduler_unknown: {
    status: 422,
    title: "The scheduler is not known",
    remedy: "Send one of the model's `schedulers`, see GET /v1/models.",
  },
  idempotency_key_reused: {
    status: 422,
    title: "The Idempotency-Key was used for another request",
    remedy: "Send a new key with a new request; the same key only with the same request.",
  },
  webhook_url_refused: {
    status: 422,
    title: "Webhooks are not sent to this address",
    remedy: "Send an https address of the public internet, without user name and password.",
  },
  private_key_refused: {
    status: 422,
    title: "The key holds private or secret parts",
    remedy: "Send the public half alone, and make a new pair: this private key has left your machine.",
  },
  rate_limit_exceeded: {
    status: 429,
    title: "Too many requests",
    remedy: "Send the request again after `Retry-After` seconds; `RateLimit` tells what is left.",
    retryAfterSeconds: 1,
  },
  too_many_generations: {
    status: 429,
    title: "Too many generations at once",
    remedy:
      "Wait until one of the account's generations has ended, or cancel one; `details` holds the `limit`.",
    retryAfterSeconds: 1,
  },
  queue_full: {
    status: 429,
    title: "The queue is full",
    remedy: "Send the request again after `Retry-After` seconds; nothing was done for this one.",
    retryAfterSeconds: 1,
  },
  internal_error: {
    status: 500,
    title: "The service failed",
    remedy: "Send the request again; if it fails again, report the `request_id` to the operator.",
  },
  worker_failed: {
    status: 500,
    title: "The inference worker failed",
    remedy: "Send the request again; if it fails again, report the `request_id` to the operator.",
  },
  shutting_down: {
    status: 503,
    title: "The service is shutting down",
    remedy: "Send the request again after `Retry-After` seconds: another process will take it.",
    retryAfterSeconds: 5,
  },
  not_ready: {
    status: 503,
    title: "The model is still loading",
    remedy: "Send the request again after `Retry-After` seconds; GET /readyz tells when the model is ready.",
    retryAfterSeconds: 2,
  },
  store_unavailable: {
    status: 503,
    title: "The database cannot be reached",
    remedy:
      "Send the request again after `Retry-After` seconds, with the same Idempotency-Key if it had one.",
    retryAfterSeconds: 2,
  },
  image_store_unavailable: {
    status: 503,
    title: "The image store cannot be reached",
    remedy:
      "Send the request again after `Retry-After` seconds; portraits that could not be kept were not charged, and need a new Idempotency-Key.",
    retryAfterSeconds: 10,
  },
  keys_unavailable: {
    status: 503,
    title: "The identity provider's keys cannot be fetched",
    remedy: "Send the request again after `Retry-After` seconds; the operator may check JWT_JWKS_URL.",
    retryAfterSeconds: 10,
  },
  deadline_exceeded: {
    status: 504,
    title: "The generation took too long",
    remedy:
      "Ask for fewer images or steps, or again when the service is less busy; `details` names the limit.",
  },
} as const satisfies Record<PipelineErrorCode, ProblemDefinition> & Record<string, ProblemDefinition>;

/** A stable reason, one of {@linkcode problemCatalogue}. */
export type ProblemCode = keyof typeof problemCatalogue;

/** All codes, in the catalogue's order. */
export const problemCodes = Object.keys(problemCatalogue) as [ProblemCode, ...ProblemCode[]];

/**
 * The `type` of a problem (RFC 9457, 3.1.1): a name, not an address, because the service knows no domain of its own.
 *
 * @param code which problem
 * @returns for example `urn:idadapter:problem:face_not_found`
 */
export function problemType(code: ProblemCode): string {
  return `urn:idadapter:problem:${code}`;
}
