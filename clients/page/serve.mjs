// Serves dist/ with the headers of the server, and passes rpcs on to a server: `npm run dev -- --server 127.0.0.1:50051
// --port 5173`. Tests use it for servers that were built without the page.
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const dist = join(dirname(fileURLToPath(import.meta.url)), "dist");
const FILES = ["/index.html", "/app.js", "/app.css", "/icon.svg"];
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'";

/**
 * Starts it. Resolves to the address and a function that ends it.
 *
 * @param server address of the server, as in `127.0.0.1:50051`.
 */
export async function serve(server, port = 0) {
  const [hostname, serverPort] = server.split(":");
  const http = createServer((incoming, response) => {
    const path = incoming.url === "/" ? "/index.html" : (incoming.url ?? "");
    if (incoming.method === "GET" && FILES.includes(path)) {
      response.writeHead(200, { "content-type": TYPES[extname(path)], "content-security-policy": POLICY });
      response.end(readFileSync(join(dist, path)));
      return;
    }
    const { method, url, headers } = incoming;
    const outgoing = request({ hostname, port: serverPort, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    outgoing.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    response.on("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
  });
  http.listen(port, "127.0.0.1");
  await new Promise((resolve, reject) => http.on("listening", resolve).on("error", reject));
  const close = () => {
    http.close();
    http.closeAllConnections();
  };
  return { address: `127.0.0.1:${http.address().port}`, close };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { server: { type: "string", default: "127.0.0.1:50051" }, port: { type: "string", default: "5173" } },
  });
  const { address } = await serve(values.server, Number(values.port));
  process.stdout.write(`http://${address}/\n`);
}
