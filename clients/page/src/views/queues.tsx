// Queues with their depth, and workers.
import { useMemo } from "preact/hooks";
import { call } from "../api.js";
import { AdminService, type GetStatisticsResponse } from "../client/gen/interlock/v1/admin_service_pb.js";
import { count } from "../logic/format.js";
import { queuesOf, workersOf } from "../logic/queues.js";
import { ActiveJobs } from "../parts/active.js";
import { Ago, Bar, Empty, Facts, Fault, Panel, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { href, namespace } from "../router.js";
import { useFrames, useValue } from "../value.js";

const READ_MS = 2_000;
/** Workers and stages of one worker that are shown. */
const SHOWN = 100;
const STAGES = 5;

export function QueuesView() {
  const frames = useFrames();
  const place = useValue(namespace);
  const held = useMemo(
    () => ({ active: new ActiveJobs(), statistics: undefined as GetStatisticsResponse | undefined, isRead: false }),
    [place],
  );
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        await held.active.read(signal);
        held.isRead = true;
        frames();
      }),
    [held],
  );
  // Figures of the server need a role of their own in some setups, and the queues do not need them.
  useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        held.statistics = await call(AdminService.method.getStatistics, {}, signal);
        frames();
      }),
    [held],
  );
  const { active, statistics } = held;
  const queues = queuesOf(active.jobs.values());
  const workers = workersOf(active.jobs.values());
  return (
    <>
      <h1 class="hidden">Queues</h1>
      <Fault text={fault} />
      <Panel title="Queues">
        {active.isPartial && <p class="dim">Of the 100 oldest jobs that have not ended; there are more.</p>}
        {queues.length === 0 ? (
          <Empty>{held.isRead ? "No stage is ready or running." : fault === undefined && "Reading queues …"}</Empty>
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
                    Running
                  </th>
                  <th scope="col" class="number">
                    Backoff
                  </th>
                  <th scope="col" class="number">
                    Workers
                  </th>
                </tr>
              </thead>
              <tbody>
                {queues.map((queue) => (
                  <tr key={queue.name}>
                    <th scope="row">
                      <Text value={queue.name} />
                    </th>
                    <td class="number">{count(queue.ready)}</td>
                    <td>
                      <Ago at={queue.oldestReady} />
                    </td>
                    <td class="number">{count(queue.running)}</td>
                    <td class="number">{count(queue.backoff)}</td>
                    <td class="number">{count(queue.workers.length)}</td>
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
