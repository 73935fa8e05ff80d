// The figures of the server that answers.
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { call } from "../api.js";
import {
  AdminService,
  type GetServerInfoResponse,
  type GetStatisticsResponse,
} from "../client/gen/interlock/v1/admin_service_pb.js";
import { bytes, count, duration, durationMs, ms } from "../logic/format.js";
import { Ago, Empty, Facts, Fault, Lasting, Panel, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { useFrames } from "../value.js";

const READ_MS = 2_000;

export function ServerView() {
  const frames = useFrames();
  const held = useMemo(
    () => ({
      info: undefined as GetServerInfoResponse | undefined,
      statistics: undefined as GetStatisticsResponse | undefined,
    }),
    [],
  );
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        held.info ??= await call(AdminService.method.getServerInfo, {}, signal);
        held.statistics = await call(AdminService.method.getStatistics, {}, signal);
        frames();
      }),
    [],
  );
  const { info, statistics } = held;
  return (
    <>
      <h1 class="hidden">Server</h1>
      <Fault text={fault} />
      {statistics === undefined ? (
        <Empty>{fault === undefined && "Reading figures …"}</Empty>
      ) : (
        <Figures info={info} of={statistics} />
      )}
    </>
  );
}

type Fact = readonly [string, ComponentChildren | undefined];

interface FiguresProps {
  readonly info: GetServerInfoResponse | undefined;
  readonly of: GetStatisticsResponse;
}

function Figures({ info, of }: FiguresProps) {
  const { pool, writer, cache, feed, permits, timelines, segmentCache } = of;
  const panels: readonly (readonly [string, readonly Fact[]])[] = [
    [
      "Database connections",
      [
        ["Open", `${count(pool?.connections ?? 0n)} of ${count(pool?.maxConnections ?? 0n)}`],
        ["Idle", count(pool?.idle ?? 0n)],
        ["Callers that wait", count(pool?.waiting ?? 0n)],
      ],
    ],
    [
      "Writes",
      [
        ["Operations", count(writer?.operations ?? 0n)],
        ["Groups", count(writer?.groups ?? 0n)],
        ["In the queue", count(writer?.queueDepth ?? 0n)],
        ["Conflicts", count(writer?.conflicts ?? 0n)],
        ["Contended", count(writer?.contended ?? 0n)],
        ["Rejected", count(writer?.rejected ?? 0n)],
      ],
    ],
    [
      "Cache",
      [
        ["Entries", count(cache?.entries ?? 0n)],
        ["Size", bytes(cache?.bytes ?? 0n)],
        ["Hits", count(cache?.hits ?? 0n)],
        ["Misses", count(cache?.misses ?? 0n)],
        ["Segments", `${count(segmentCache?.entries ?? 0n)}, ${bytes(segmentCache?.bytes ?? 0n)}`],
        ["Evictions", count((cache?.evictions ?? 0n) + (segmentCache?.evictions ?? 0n))],
      ],
    ],
    [
      "Watches",
      [
        ["Open", count(feed?.watchers ?? 0n)],
        ["Jobs watched", count(feed?.topics ?? 0n)],
        ["Changes sent", count(feed?.changesSent ?? 0n)],
        ["Snapshots sent", count(feed?.snapshotsSent ?? 0n)],
        ["Gaps sent", count(feed?.gapsSent ?? 0n)],
        ["Hints received", count(feed?.hintsReceived ?? 0n)],
      ],
    ],
    [
      "Permits",
      [
        ["Granted", count(permits?.granted ?? 0n)],
        ["Ended", count(permits?.ended ?? 0n)],
        ["Lost", count(permits?.lost ?? 0n)],
        ["Callers that wait", count(permits?.waiting ?? 0n)],
        ...Object.entries(permits?.denied ?? {}).map(([reason, n]): Fact => [`Denied: ${reason}`, count(n)]),
      ],
    ],
    [
      "Timelines",
      [
        ["Calls at the database", `${count(timelines?.operations ?? 0n)} of ${count(timelines?.maxOperations ?? 0n)}`],
        ["Calls that wait", count(timelines?.waiting ?? 0n)],
        ["Completed", count(timelines?.completed ?? 0n)],
        ["Rejected", count(timelines?.rejected ?? 0n)],
      ],
    ],
  ];
  return (
    <>
      <Panel title={`Interlock ${info?.version ?? ""}`}>
        <Facts
          of={[
            ["Started", <Ago key="started" at={ms(of.startTime)} />],
            ["Up for", <Lasting key="up" from={ms(of.startTime)} to={undefined} />],
            ["Calls in progress", count(of.rpcs.reduce((sum, { inFlight }) => sum + inFlight, 0n))],
            ["Workers' calls that wait", count(of.dispatcher?.waitingPolls ?? 0n)],
          ]}
        />
      </Panel>
      <div class="columns">
        {panels.map(([title, facts]) => (
          <Panel key={title} title={title}>
            <Facts of={facts} />
          </Panel>
        ))}
      </div>
      <Rpcs of={of} />
      <Loops of={of} />
    </>
  );
}

function Rpcs({ of }: { readonly of: GetStatisticsResponse }) {
  const calls = of.rpcs.map((rpc) => {
    const ok = rpc.calls.OK ?? 0n;
    const all = Object.values(rpc.calls).reduce((sum, n) => sum + n, 0n);
    const faults = Object.entries(rpc.calls).filter(([status]) => status !== "OK");
    return { rpc, ok, all, faults };
  });
  calls.sort((one, other) => Number(other.all - one.all));
  return (
    <Panel title="Calls since the start">
      <Table label="Calls">
        <thead>
          <tr>
            <th scope="col">Rpc</th>
            {["OK", "In progress", "p50", "p90", "p99", "Max"].map((title) => (
              <th key={title} scope="col" class="number">
                {title}
              </th>
            ))}
            <th scope="col">Errors</th>
          </tr>
        </thead>
        <tbody>
          {calls.map(({ rpc, ok, faults }) => (
            <tr key={rpc.method}>
              <th scope="row">{rpc.method.replace("interlock.v1.", "")}</th>
              <td class="number">{count(ok)}</td>
              <td class="number">{count(rpc.inFlight)}</td>
              {[rpc.latency?.p50, rpc.latency?.p90, rpc.latency?.p99, rpc.latency?.max].map((value, index) => (
                <td key={index} class="number">
                  {value === undefined ? "–" : duration(durationMs(value) ?? 0)}
                </td>
              ))}
              <td>{faults.map(([status, n]) => `${status} ${count(n)}`).join(", ")}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Panel>
  );
}

function Loops({ of }: { readonly of: GetStatisticsResponse }) {
  return (
    <Panel title="Background loops">
      <Table label="Background loops">
        <thead>
          <tr>
            <th scope="col">Loop</th>
            <th scope="col" class="number">
              Runs
            </th>
            <th scope="col" class="number">
              Failures
            </th>
            <th scope="col" class="number">
              Items
            </th>
            <th scope="col">Last run</th>
          </tr>
        </thead>
        <tbody>
          {of.loops.map((loop) => (
            <tr key={loop.name}>
              <th scope="row">
                <Text value={loop.name} />
              </th>
              <td class="number">{count(loop.runs)}</td>
              <td class={loop.failures > 0n ? "number bad" : "number"}>{count(loop.failures)}</td>
              <td class="number">{count(loop.items)}</td>
              <td>
                <Ago at={ms(loop.lastRunTime)} />
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Panel>
  );
}
