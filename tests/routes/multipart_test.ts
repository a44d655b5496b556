/** Where the parts of a form begin. */

import { deepEqual, equal } from "node:assert/strict";
import { boundaryOf, delimiters } from "../../routes/multipart.ts";

Deno.test("a boundary is read as media types write it", () => {
  for (
    const [type, boundary] of [
      ["multipart/form-data; boundary=x", "x"],
      ["Multipart/Form-Data;charset=utf-8;BOUNDARY=----a'b_1", "----a'b_1"],
      ["multipart/form-data; boundary=x;charset=utf-8", "x"],
      ['multipart/form-data; boundary="a b" ; charset=utf-8', "a b"],
      [`multipart/form-data; boundary=${"x".repeat(70)}`, "x".repeat(70)],
      [`multipart/form-data; boundary=${"x".repeat(71)}`, undefined],
      ["multipart/form-data", undefined],
      ["multipart/form-data; boundary=", undefined],
      ["application/json; boundary=x", undefined],
    ] as const
  ) {
    equal(boundaryOf(type), boundary, type);
  }
});

Deno.test("a part begins where a line does", () => {
  const body = "--x\r\nhead\r\n\r\n--y and --x\r\n--x\r\n\r\n-\n--x--\r\n";
  const places = [...delimiters(new TextEncoder().encode(body), "x")];
  deepEqual(places, [0, body.indexOf("\n--x") + 1, body.lastIndexOf("--x")]);
  deepEqual([...delimiters(new TextEncoder().encode("--"), "x")], []);
});
