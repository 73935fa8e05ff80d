// Workers with what they hold.
import type { HeldStage, WorkerLeases } from "../client/gen/interlock/v1/worker_service_pb.js";
import { count, ms } from "../logic/format.js";
import { bounded, type Listed } from "../logic/queues.js";
import { Ago, Bar, Empty, Panel, Text } from "../parts/basics.js";
import { Table } from "../parts/table.js";
import { href } from "../router.js";

/** Stages of one worker that are shown. */
const STAGES = 5;

/** The workers that hold leases. `workers`: undefined until they have been read, or if they cannot be. */
export function WorkersPanel({ workers, isRead, more }: WorkersProps) {
  const all = workers?.items ?? [];
  // Then it is so for all of them.
  const isCapped = all.some((worker) => worker.leaseCountCapped);
  return (
    <Panel title="Workers">
      {workers === undefined && !isRead && <Empty>Reading workers …</Empty>}
      {workers !== undefined && all.length === 0 && <Empty>No worker holds a lease.</Empty>}
      {workers?.isPartial && (
        <p class="dim">
          The first {count(all.length)} workers; there are more.{" "}
          {more !== undefined && (
            <button type="button" class="link" onClick={more}>
              Show more workers
            </button>
          )}
        </p>
      )}
      {isCapped && (
        <p class="dim">
          The namespace has more than 10,000 leases; the others, and workers that only hold these, are not here.
        </p>
      )}
      {all.length > 0 && (
        <Table label="Workers">
          <thead>
            <tr>
              <th scope="col">Worker</th>
              <th scope="col" class="number">
                Leases
              </th>
              <th scope="col">Oldest lease</th>
              <th scope="col">Last renewal</th>
              <th scope="col">Next expiry</th>
              <th scope="col">Stages</th>
            </tr>
          </thead>
          <tbody>
            {all.map((worker) => (
              <tr key={worker.workerId}>
                <th scope="row">
                  <Text value={worker.workerId} />
                </th>
                <td class="number">{bounded(worker.leaseCount, worker.leaseCountCapped)}</td>
                <td>
                  <Ago at={ms(worker.oldestLeaseTime)} />
                </td>
                <td>
                  <Ago at={ms(worker.lastRenewTime)} />
                </td>
                <td>
                  <Ago at={ms(worker.nextExpireTime)} />
                </td>
                <td class="wide">
                  <Stages of={worker} />
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </Panel>
  );
}

interface WorkersProps {
  readonly workers: Listed<WorkerLeases> | undefined;
  readonly isRead: boolean;
  /** Shows more workers. Undefined: no more can be shown. */
  readonly more: (() => void) | undefined;
}

function Stages({ of: { stages, leaseCount } }: { readonly of: WorkerLeases }) {
  const shown = stages.slice(0, STAGES);
  const more = leaseCount - shown.length;
  return (
    <>
      {shown.map((stage: HeldStage) => (
        <div key={`${stage.jobId} ${stage.stageName}`} class="inline">
          <a href={href(["jobs", stage.jobId], { stage: stage.stageName })}>
            <Text value={stage.jobId} /> · <Text value={stage.stageName} />
          </a>
          <Bar share={stage.progress} label={`Progress of ${stage.stageName}`} />
        </div>
      ))}
      {more > 0 && <span class="dim">and {count(more)} more</span>}
    </>
  );
}
