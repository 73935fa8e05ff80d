// Help for the tests of a program: real servers. It needs no test runner, and works with each.
import { Client } from "./client.js";
import type { ClientOptions } from "./connection.js";
import { AdminService } from "./gen/interlock/v1/admin_service_pb.js";
import type { TestServer } from "./test_server.js";

export { freeAddress, startServer, type TestServer, type TestServerOptions } from "./test_server.js";

/**
 * Creates a namespace that only the caller knows. Returns its name, for `new Client({ address, namespace })`.
 *
 * @param options options of the client that creates it, such as `ca` and `apiKey` if the server requires them.
 */
export async function createNamespace(server: TestServer, options: ClientOptions = {}): Promise<string> {
  await using client = new Client({ address: server.address, ...options });
  const name = `test-${crypto.randomUUID()}`;
  await client.call(AdminService.method.createNamespace, { name });
  return name;
}
