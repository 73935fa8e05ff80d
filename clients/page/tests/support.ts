// A browser, a page and calls for tests of the page.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import puppeteer, { type Browser, type Page } from "puppeteer-core";
// @ts-expect-error: it is plain JavaScript without types.
import { serve } from "../../serve.mjs";
import { startServer, type TestServer, type TestServerOptions } from "../../typescript/src/test_server.js";

const WAIT_MS = 30_000;

/** A page with all that must not happen in it. */
export interface Watched {
  readonly page: Page;
  /** Violations of the policy, dialogs and errors of scripts. */
  readonly faults: string[];
  /** Waits until the page shows a text. */
  shows(text: string | RegExp, selector?: string): Promise<void>;
  /** Goes to a hash without a reload. */
  go(hash: string): Promise<void>;
}

/** A browser for the tests of a file. `acceptInsecureCerts`: certificates of any issuer are accepted. */
export function browser({ acceptInsecureCerts = false } = {}): {
  open(base: string, hash?: string): Promise<Watched>;
  /** A new tab without cookies, cache and connections of others. */
  newPage(): Promise<Page>;
  /** Closes the pages of earlier tests. */
  closePages(): Promise<void>;
} {
  let running: Browser | undefined;
  const closers: (() => void)[] = [];
  before(async () => {
    running = await puppeteer.launch({
      executablePath: process.env.CHROMIUM_BIN || "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-dev-shm-usage"],
      acceptInsecureCerts,
      protocolTimeout: 120_000,
    });
  });
  after(async () => {
    await running?.close();
    for (const close of closers) {
      close();
    }
  });
  const newPage = async () => {
    if (running === undefined) {
      throw new Error("the browser did not start");
    }
    const context = await running.createBrowserContext();
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS);
    return page;
  };
  return {
    newPage,
    async open(base, hash = "") {
      const page = await newPage();
      const faults: string[] = [];
      page.on("dialog", (dialog) => {
        faults.push(`dialog: ${dialog.message()}`);
        void dialog.dismiss();
      });
      page.on("pageerror", (error) => faults.push(`error: ${String(error)}`));
      page.on("console", (message) => {
        if (/Content Security Policy/i.test(message.text())) {
          faults.push(message.text());
        }
      });
      const address = await pageOf(base, closers);
      await page.goto(`http://${address}/${hash}`);
      await page.waitForSelector("main");
      return {
        page,
        faults,
        async shows(text, selector = "body") {
          const [source, flags] = text instanceof RegExp ? [text.source, text.flags] : [escaped(text), ""];
          const isShown = (where: string, pattern: string, how: string) =>
            [...document.querySelectorAll<HTMLElement>(where)].some((element) =>
              new RegExp(pattern, how).test(element.innerText),
            );
          await page.waitForFunction(isShown, { timeout: WAIT_MS }, selector, source, flags).catch(async (error) => {
            const shown = await page.evaluate(() => document.body.innerText.slice(0, 3_000));
            throw new Error(`${selector} never showed ${String(text)}:\n${shown}`, { cause: error });
          });
        },
        async go(to) {
          await page.evaluate((target) => {
            location.hash = target;
          }, to);
        },
      };
    },
    async closePages() {
      const contexts = running?.browserContexts() ?? [];
      await Promise.all(contexts.filter((context) => context.id !== undefined).map((context) => context.close()));
    },
  };
}

/** A server for the tests of a file. `prepare` is called with its address before the first test. */
export function sharedServer(
  options: TestServerOptions = {},
  prepare: (address: string) => Promise<void> = async () => {},
): Pick<TestServer, "address" | "beside"> {
  let running: TestServer | undefined;
  const started = () => {
    if (running === undefined) {
      throw new Error("the server did not start");
    }
    return running;
  };
  before(async () => {
    running = await startServer(options);
    await prepare(running.address);
  });
  after(() => running?.stop());
  return {
    get address() {
      return started().address;
    },
    beside: (others) => started().beside(others),
  };
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** The address of the page: the server's own, or that of one for servers that were built without the page. */
async function pageOf(server: string, closers: (() => void)[]): Promise<string> {
  const response = await fetch(`http://${server}/`, { headers: { accept: "text/html" } });
  await response.body?.cancel();
  if (response.headers.get("content-type")?.startsWith("text/html")) {
    return server;
  }
  const { address, close } = await serve(server);
  closers.push(close);
  return address;
}

/** Calls an rpc, as in `rpc("127.0.0.1:1", "JobService/GetJob", { jobId })`. */
export async function rpc(
  server: string,
  method: string,
  request: object,
  headers: Readonly<Record<string, string>> = {},
  // biome-ignore lint/suspicious/noExplicitAny: the tests know the responses.
): Promise<any> {
  const response = await fetch(`http://${server}/interlock.v1.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(request),
  });
  const text = await response.text();
  if (!response.ok) {
    throw new Error(`${method}: ${text}`);
  }
  return JSON.parse(text);
}

/** Leases stages of a queue and ends each as told. */
export async function work(
  server: string,
  queue: string,
  end: (lease: { readonly leaseToken: string; readonly stageName: string }) => Promise<unknown>,
): Promise<number> {
  const request = { workerId: "tester", queues: [queue], maxStages: 10, wait: "5s" };
  const { leases = [] } = await rpc(server, "WorkerService/LeaseStages", request);
  for (const lease of leases) {
    await end(lease);
  }
  return leases.length;
}

/** Completes the stage of a lease. */
export function complete(server: string, leaseToken: string, more: object = {}): Promise<unknown> {
  return rpc(server, "WorkerService/CompleteStage", { target: { leaseToken }, ...more });
}

/** That nothing happened which must not. */
export function assertQuiet({ faults }: Watched): void {
  assert.deepEqual(faults, []);
}
