// Queues with their depth, and workers.
import { useMemo } from "preact/hooks";
import { call } from "../api.js";
import { AdminService, type GetStatisticsResponse } from "../client/gen/interlock/v1/admin_service_pb.js";
import { JobService, type Queue } from "../client/gen/interlock/v1/job_service_pb.js";
import { count, ms } from "../logic/format.js";
import { bounded, type Listed, listed, workersOf } from "../logic/queues.js";
import { ActiveJobs } from "../parts/active.js";
import { Ago, Bar, Empty, Facts, Fault, Panel, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { href, namespace } from "../router.js";
import { useFrames, useValue } from "../value.js";

const READ_MS = 2_000;
/** Queues that are shown, and pages that are read for them. */
const QUEUES = 200;
const PAGES = 5;
/** Workers and stages of one worker that are shown. */
const SHOWN = 100;
const STAGES = 5;

interface Model {
  readonly active: ActiveJobs;
  queues: Listed<Queue> | undefined;
  statistics: GetStatisticsResponse | undefined;
}

export function QueuesView() {
  const frames = useFrames();
  const place = useValue(namespace);
  const model = useMemo<Model>(() => ({ active: new ActiveJobs(), queues: undefined, statistics: undefined }), [place]);
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        model.queues = await listed(QUEUES, PAGES, async (pageToken) => {
          const request = { pageSize: QUEUES, pageToken };
          const page = await call(JobService.method.listQueues, request, signal);
          return { items: page.queues, nextPageToken: page.nextPageToken };
        });
        frames();
        await model.active.read(signal);
        frames();
      }),
    [model],
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
  const { active, queues, statistics } = model;
  const workers = workersOf(active.jobs.values());
  return (
    <>
      <h1 class="hidden">Queues</h1>
      <Fault text={fault} />
      <Panel title="Queues">
        {queues?.isPartial && <p class="dim">The first {count(queues.items.length)} queues; there are more.</p>}
        {queues === undefined || queues.items.length === 0 ? (
          <Empty>
            {queues === undefined ? fault === undefined && "Reading queues …" : "No stage is ready or running."}
          </Empty>
        ) : (
          <div class="scroll">
            <table>
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
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {statistics !== undefined && (
          <Facts of={[["Workers' calls that wait for work", count(statistics.dispatcher?.waitingPolls ?? 0n)]]} />
        )}
      </Panel>
      <Panel title={`Workers with leases (${count(workers.length)})`}>
        {active.isPartial && <p class="dim">Of the 100 oldest jobs that have not ended; there are more.</p>}
        {workers.length === 0 && <Empty>No worker holds a lease.</Empty>}
        <div class="scroll">
          <table>
            <tbody>
              {workers.slice(0, SHOWN).map(({ name, stages }) => (
                <tr key={name}>
                  <th scope="row">
                    <Text value={name} />
                  </th>
                  <td>
                    {stages.slice(0, STAGES).map(({ jobId, stage }) => (
                      <div key={`${jobId} ${stage.name}`} class="inline">
                        <a href={href(["jobs", jobId], { stage: stage.name })}>
                          <Text value={jobId} /> · <Text value={stage.name} />
                        </a>
                        <Bar share={stage.progress} label={`Progress of ${stage.name}`} />
                      </div>
                    ))}
                    {stages.length > STAGES && <span class="dim">and {stages.length - STAGES} more</span>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </Panel>
    </>
  );
}
