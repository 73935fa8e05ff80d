// Queues with their depth, and workers with what they hold.
import { useMemo, useState } from "preact/hooks";
import { call } from "../api.js";
import { AdminService, type GetStatisticsResponse } from "../client/gen/interlock/v1/admin_service_pb.js";
import { JobService, type Queue } from "../client/gen/interlock/v1/job_service_pb.js";
import { type WorkerLeases, WorkerService } from "../client/gen/interlock/v1/worker_service_pb.js";
import { count, ms } from "../logic/format.js";
import { bounded, type Listed, listed } from "../logic/queues.js";
import { Ago, Empty, Facts, Fault, Panel, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { namespace } from "../router.js";
import { useFrames, useValue } from "../value.js";
import { WorkersPanel } from "./workers.js";

const READ_MS = 2_000;
/** Queues and workers that are shown, workers that are shown at first, and pages that are read for them. */
const SHOWN = 200;
const FIRST_WORKERS = 50;
const PAGES = 5;

interface Model {
  queues: Listed<Queue> | undefined;
  workers: Listed<WorkerLeases> | undefined;
  statistics: GetStatisticsResponse | undefined;
}

export function QueuesView() {
  const frames = useFrames();
  const place = useValue(namespace);
  const [most, setMost] = useState(FIRST_WORKERS);
  const model = useMemo<Model>(() => ({ queues: undefined, workers: undefined, statistics: undefined }), [place]);
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        model.queues = await listed(SHOWN, PAGES, async (pageToken) => {
          const request = { pageSize: SHOWN, pageToken };
          const page = await call(JobService.method.listQueues, request, signal);
          return { items: page.queues, nextPageToken: page.nextPageToken };
        });
        frames();
        model.workers = await listed(most, PAGES, async (pageToken) => {
          const request = { pageSize: most, pageToken };
          const page = await call(WorkerService.method.listWorkers, request, signal);
          return { items: page.workers, nextPageToken: page.nextPageToken };
        });
        frames();
      }),
    [model, most],
  );
  // Figures of the server need a role of their own in some setups, and the queues do not need them.
  useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        model.statistics = await call(AdminService.method.getStatistics, {}, signal);
        frames();
      }),
    [model],
  );
  const { queues, workers, statistics } = model;
  return (
    <>
      <h1 class="hidden">Queues</h1>
      <Fault text={fault} />
      <Panel title="Queues">
        {queues?.isPartial && <p class="dim">The first {count(queues.items.length)} queues; there are more.</p>}
        {queues === undefined || queues.items.length === 0 ? (
          <Empty>
            {queues === undefined ? fault === undefined && "Reading queues …" : "No stage is ready, waiting or leased."}
          </Empty>
        ) : (
          <Table label="Queues">
            <thead>
              <tr>
                <th scope="col">Queue</th>
                <th scope="col" class="number">
                  Ready
                </th>
                <th scope="col">Oldest ready</th>
                <th scope="col" class="number">
                  Wait for a permit
                </th>
                <th scope="col" class="number">
                  Leased
                </th>
                <th scope="col" class="number">
                  Delayed
                </th>
              </tr>
            </thead>
            <tbody>
              {queues.items.map((queue) => (
                <tr key={queue.name}>
                  <th scope="row">
                    <Text value={queue.name} />
                  </th>
                  <td class="number">{bounded(queue.readyCount, queue.readyCountCapped)}</td>
                  <td>
                    <Ago at={ms(queue.oldestReadyTime)} />
                  </td>
                  <td class="number">{bounded(queue.waitingCount, queue.waitingCountCapped)}</td>
                  <td class="number">{bounded(queue.leasedCount, queue.leasedCountCapped)}</td>
                  <td class="number">{bounded(queue.delayedCount, queue.delayedCountCapped)}</td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
        {statistics !== undefined && (
          <Facts of={[["Workers' calls that wait for work", count(statistics.dispatcher?.waitingPolls ?? 0n)]]} />
        )}
      </Panel>
      <WorkersPanel
        workers={workers}
        isRead={workers !== undefined || fault !== undefined}
        more={most < SHOWN ? () => setMost(SHOWN) : undefined}
      />
    </>
  );
}
