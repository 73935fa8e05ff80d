// Callers and stages that wait for a permit of a resource.
import { useMemo } from "preact/hooks";
import { call } from "../api.js";
import { NotFound } from "../client/errors.js";
import { PermitMode, type Resource } from "../client/gen/interlock/v1/permit_pb.js";
import {
  type ListWaitersResponse,
  PermitService,
  type PermitWaiter,
} from "../client/gen/interlock/v1/permit_service_pb.js";
import { count, ms, words } from "../logic/format.js";
import { bounded } from "../logic/queues.js";
import { Ago, Empty, Fault, Panel, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { href } from "../router.js";
import { useFrames } from "../value.js";

const READ_MS = 2_000;
/** Waiters that are shown. */
const SHOWN = 50;

/** The waiters of a resource, read again while it has any. */
export function Waiters({ resource }: { readonly resource: Resource }) {
  const hasWaiters = resource.stagesWaiting || resource.waiterCount > 0n;
  return hasWaiters ? <WaitersPanel name={resource.name} /> : null;
}

function WaitersPanel({ name }: { readonly name: string }) {
  const frames = useFrames();
  const held = useMemo(() => ({ page: undefined as ListWaitersResponse | undefined }), [name]);
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        held.page = await readWaiters(name, signal);
        frames();
      }),
    [held],
  );
  const { page } = held;
  return (
    <Panel title="Waiting">
      <Fault text={fault} />
      {page === undefined ? fault === undefined && <Empty>Reading waiters …</Empty> : <WaitersTable page={page} />}
    </Panel>
  );
}

/** Undefined: the resource was deleted. */
async function readWaiters(name: string, signal: AbortSignal): Promise<ListWaitersResponse | undefined> {
  try {
    return await call(PermitService.method.listWaiters, { name, pageSize: SHOWN }, signal);
  } catch (error) {
    if (error instanceof NotFound) {
      return undefined;
    }
    throw error;
  }
}

function WaitersTable({ page }: { readonly page: ListWaitersResponse }) {
  const { waiters, callerCount, stageCount, stageCountCapped, nextPageToken } = page;
  return (
    <>
      <p>
        {count(callerCount)} {callerCount === 1 ? "caller" : "callers"} and {bounded(stageCount, stageCountCapped)}{" "}
        {stageCount === 1 ? "stage" : "stages"}, by priority and then by time
        {nextPageToken !== "" && `; the first ${count(waiters.length)} are shown`}.
      </p>
      {waiters.length > 0 && (
        <Table label="Waiting">
          <thead>
            <tr>
              <th scope="col">Waiter</th>
              <th scope="col">Queue</th>
              <th scope="col" class="number">
                Priority
              </th>
              <th scope="col">Mode</th>
              <th scope="col" class="number">
                Amount
              </th>
              <th scope="col">Since</th>
              <th scope="col">Until</th>
            </tr>
          </thead>
          <tbody>
            {waiters.map((waiter, index) => (
              // Callers can have the same name.
              <tr key={`${waiter.jobId} ${waiter.stageName} ${waiter.holder} ${waiter.jobId === "" ? index : ""}`}>
                <th scope="row">
                  <Waiter of={waiter} />
                </th>
                <td>{waiter.queue !== "" && <Text value={waiter.queue} />}</td>
                <td class="number">{count(waiter.priority)}</td>
                <td>{words(PermitMode[waiter.mode])}</td>
                <td class="number">{count(waiter.amount)}</td>
                <td>
                  <Ago at={ms(waiter.waitStartTime)} />
                </td>
                <td>{waiter.expireTime && <Ago at={ms(waiter.expireTime)} />}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </>
  );
}

function Waiter({ of: { jobId, stageName, holder } }: { readonly of: PermitWaiter }) {
  return jobId === "" ? (
    <Text value={holder} />
  ) : (
    <a href={href(["jobs", jobId], { stage: stageName })}>
      <Text value={jobId} /> · <Text value={stageName} />
    </a>
  );
}
