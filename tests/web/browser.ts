/** A real Chromium before the real service with the real model. */

import { fileURLToPath } from "node:url";
import puppeteer, { type Browser, type BrowserContext, type Page } from "puppeteer-core";
import { type ServiceProcess, startService } from "../../demo/service_process.ts";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { chromium, withoutChromium } from "../chromium.ts";

/** What the page is seen on; a phone that is narrow, a desktop that is not wide. */
export const sizes = {
  phone: { width: 360, height: 740, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  desktop: { width: 1280, height: 860 },
} as const;

/** One of {@linkcode sizes}. */
export type Size = keyof typeof sizes;

/** A photo of one clear face. */
export const face: string = fileURLToPath(new URL("../fixtures/face.png", import.meta.url));

/** A name the browser finds the service under, and cannot tell from another machine's. */
const otherName = "service.test";

/** Service and browser; `await using` stops both. */
export class Stage implements AsyncDisposable {
  private constructor(readonly service: ServiceProcess, readonly browser: Browser) {}

  /**
   * Starts both. Accounts begin without credits; the developer's is given some.
   *
   * @param executablePath of a Chromium
   */
  static async open(executablePath: string): Promise<Stage> {
    const service = await startService(AbortSignal.timeout(240_000), { INITIAL_CREDIT: "0", THREADS: "2" });
    const grant = await fetch(`${service.address}/v1/accounts/developer/credits`, {
      method: "POST",
      headers: {
        "Authorization": `Bearer ${await signDevelopmentToken(service.jwt)}`,
        "Content-Type": "application/json",
      },
      body: JSON.stringify({ amount: 5000, kind: "top_up", note: "page test" }),
    });
    if (!grant.ok) throw new Error(await grant.text());
    await grant.body?.cancel();
    const browser = await puppeteer.launch({
      executablePath,
      args: [
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--lang=en",
        `--host-resolver-rules=MAP ${otherName} 127.0.0.1`,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
      ],
      protocolTimeout: 120_000,
    });
    return new Stage(service, browser);
  }

  /** The service's address as another machine would have it: plain http, no secure context. */
  get otherAddress(): string {
    return this.service.address.replace("127.0.0.1", otherName);
  }

  /** A page nobody has used before, in a browser that remembers nothing; errors in it are gathered. */
  async visit(
    size: Size,
    prepare?: (page: Page) => Promise<void>,
    address: string = this.service.address,
  ): Promise<Visit> {
    const context = await this.browser.createBrowserContext();
    const page = await context.newPage();
    await page.setViewport(sizes[size]);
    page.setDefaultTimeout(60_000);
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text())) {
        errors.push(message.text());
      }
    });
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol.startsWith("http") && origin !== address) errors.push(`asked ${origin}`);
    });
    await prepare?.(page);
    await page.goto(address);
    await page.waitForSelector("#nouns input, dialog[open]");
    return new Visit(context, page, errors);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser.close();
    await this.service[Symbol.asyncDispose]();
  }
}

/** Service and browser for a file of tests, stopped after its last. Without a Chromium nothing starts, and {@linkcode webTest} runs nothing. */
export async function openStage(): Promise<Stage> {
  let stage!: Stage;
  if (chromium !== undefined) stage = await Stage.open(chromium);
  Deno.test.afterAll(async () => await (stage as Stage | undefined)?.[Symbol.asyncDispose]());
  return stage;
}

/** A test that needs a Chromium. */
export function webTest(name: string, run: () => Promise<void>): void {
  // service and browser outlast a test
  Deno.test({
    name: name + withoutChromium,
    ignore: chromium === undefined,
    fn: run,
    sanitizeOps: false,
    sanitizeResources: false,
  });
}

/** A page and what went wrong on it. */
export class Visit implements AsyncDisposable {
  constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    readonly errors: readonly string[],
  ) {}

  /** Chooses a photo as a person does. */
  async choosePhoto(path: string): Promise<void> {
    const input = await this.page.$("#file");
    await (input as unknown as { uploadFile(path: string): Promise<void> }).uploadFile(path);
  }

  /** Waits until an element's text matches. */
  async waitForText(selector: string, pattern: RegExp): Promise<void> {
    await this.page.waitForFunction(
      `new RegExp(${JSON.stringify(pattern.source)}).test(document.querySelector(${
        JSON.stringify(selector)
      })?.textContent ?? "")`,
    );
  }

  /** An element's text. */
  text(selector: string): Promise<string> {
    return this.page.$eval(selector, (element) => element.textContent ?? "");
  }

  /** Sets a slider, and tells the page as a finger would. */
  async slide(selector: string, value: number): Promise<void> {
    await this.page.$eval(selector, (element, value) => {
      const input = element as unknown as { value: string; dispatchEvent(event: Event): void };
      input.value = String(value);
      input.dispatchEvent(new Event("input", { bubbles: true }));
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }, value);
  }

  /** Waits until portraits can be made, and asks for them. */
  async make(): Promise<void> {
    await this.page.waitForSelector("#make:enabled");
    await this.page.click("#make");
  }

  /** Has so many portraits begun. */
  async begin(count: number): Promise<void> {
    await this.choosePhoto(face);
    await this.slide("#count", count);
    await this.make();
    await this.waitForText("#running-text", /Painting/);
  }

  /** The balance that is shown. */
  async credits(): Promise<number> {
    await this.waitForText("#balance", /credits/);
    return Number((await this.text("#balance")).replace(/\D/g, ""));
  }

  /** What the tab keeps of the generation that it watches. */
  watched(): Promise<string | null> {
    return this.page.evaluate('sessionStorage.getItem("idadapter.active")') as Promise<string | null>;
  }

  /** By how many pixels the page is wider than the screen. */
  sidewaysScroll(): Promise<number> {
    return this.page.evaluate(
      "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    ) as Promise<number>;
  }

  /** Waits for so many finished portraits. */
  async waitForPortraits(count: number): Promise<void> {
    await this.page.waitForFunction(
      `document.querySelectorAll("#tiles .caption").length === ${count} && document.querySelector("#running").hidden`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.context.close();
  }
}
