// Resources: limits, holders, waiters and breakers.
import { useMemo, useState } from "preact/hooks";
import { call, openStream } from "../api.js";
import { BreakerState, type PermitHolder, PermitMode, type Resource } from "../client/gen/interlock/v1/permit_pb.js";
import { PermitService } from "../client/gen/interlock/v1/permit_service_pb.js";
import { ResourceWatch } from "../client/resources.js";
import { count, duration, durationMs, ms, words } from "../logic/format.js";
import { ask } from "../parts/ask.js";
import { Ago, Bar, Empty, Facts, Fault, Panel, State, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { href, namespace } from "../router.js";
import { useFrames, useValue } from "../value.js";
import { Waiters } from "./waiters.js";

const READ_MS = 2_000;
const PAGE = 200;
/** Name under which an operator acts, unless another is entered. */
const OPERATOR = "page";

export function PermitsView({ name }: { readonly name: string | undefined }) {
  return name === undefined ? <Resources /> : <ResourceView key={name} name={name} />;
}

function Resources() {
  const frames = useFrames();
  const place = useValue(namespace);
  const [prefix, setPrefix] = useState("");
  const held = useMemo(() => ({ resources: undefined as readonly Resource[] | undefined, hasMore: false }), [place]);
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        const request = { namePrefix: prefix, pageSize: PAGE };
        const page = await call(PermitService.method.listResources, request, signal);
        held.resources = page.resources;
        held.hasMore = page.nextPageToken !== "";
        frames();
      }),
    [held, prefix],
  );
  const { resources } = held;
  return (
    <>
      <h1 class="hidden">Permits</h1>
      <form class="filters" onSubmit={(event) => event.preventDefault()}>
        <label class="field">
          <span>Name begins with</span>
          <input type="search" value={prefix} onInput={(event) => setPrefix(event.currentTarget.value)} />
        </label>
      </form>
      <Fault text={fault} />
      <Panel title="Resources">
        {held.hasMore && <p class="dim">The first {PAGE}; enter the beginning of a name to see others.</p>}
        {resources === undefined || resources.length === 0 ? (
          <Empty>{resources === undefined ? fault === undefined && "Reading resources …" : "No resource."}</Empty>
        ) : (
          <Table label="Resources">
            <thead>
              <tr>
                <th scope="col">Resource</th>
                <th scope="col">In use</th>
                <th scope="col" class="number">
                  Permits
                </th>
                <th scope="col">Waiting</th>
                <th scope="col">Breaker</th>
                <th scope="col" class="number">
                  Grants
                </th>
                <th scope="col">Last change</th>
              </tr>
            </thead>
            <tbody>
              {resources.map((resource) => (
                <tr key={resource.name}>
                  <th scope="row">
                    <a href={href(["permits", resource.name])}>
                      <Text value={resource.name} />
                    </a>
                  </th>
                  <td>
                    <Use resource={resource} />
                  </td>
                  <td class="number">{count(resource.permitCount)}</td>
                  <td>{waiting(resource)}</td>
                  <td>
                    <Breaker resource={resource} />
                  </td>
                  <td class="number">{count(resource.grantCount)}</td>
                  <td>
                    <Ago at={ms(resource.updateTime)} />
                  </td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Panel>
    </>
  );
}

function Use({ resource }: { readonly resource: Resource }) {
  const { inUse, limit, name } = resource;
  return limit === undefined || limit === 0n ? (
    <span>{limit === 0n ? `${count(inUse)} of 0` : count(inUse)}</span>
  ) : (
    <span class="inline">
      {count(inUse)} of {count(limit)}
      <Bar share={Number(inUse) / Number(limit)} label={`Use of ${name}`} />
    </span>
  );
}

function waiting(resource: Resource): string {
  const parts = resource.waiterCount > 0n ? [`${count(resource.waiterCount)} callers`] : [];
  return [...parts, ...(resource.stagesWaiting ? ["stages"] : [])].join(", ") || "–";
}

function Breaker({ resource }: { readonly resource: Resource }) {
  const { breakerState: state, breakerOpenUntilTime: until } = resource;
  if (state === BreakerState.UNSPECIFIED) {
    return <span class="dim">–</span>;
  }
  return (
    <>
      <State name={state === BreakerState.OPEN ? "BREAKER_OPEN" : BreakerState[state]} />
      {until !== undefined && (
        <span class="dim">
          {" "}
          probes <Ago at={ms(until)} />
        </span>
      )}
    </>
  );
}

function ResourceView({ name }: { readonly name: string }) {
  const frames = useFrames();
  const place = useValue(namespace);
  const held = useMemo(() => ({ resource: undefined as Resource | undefined, isRead: false }), [place, name]);
  const fault = useTask(
    async (signal) => {
      const watch = new ResourceWatch(openStream(PermitService.method.watchResource, () => ({ name }), signal));
      for await (const update of watch) {
        held.resource = update.resource;
        held.isRead = true;
        frames();
      }
    },
    [held],
  );
  const { resource } = held;
  return (
    <>
      <div class="title">
        <h1>
          <Text value={name} />
        </h1>
        {resource?.policy?.breaker !== undefined && <Breaker resource={resource} />}
        {resource !== undefined && <Reset resource={resource} />}
      </div>
      <Fault text={fault} />
      {resource === undefined ? (
        <Empty>
          {held.isRead ? "This resource was never used, or was deleted." : fault === undefined && "Reading …"}
        </Empty>
      ) : (
        <>
          <Panel title="Limits">
            <Limits resource={resource} />
          </Panel>
          <Holders resource={resource} />
          <Waiters resource={resource} />
          <Changes resource={resource} />
        </>
      )}
    </>
  );
}

function Limits({ resource }: { readonly resource: Resource }) {
  const { policy, limit } = resource;
  const rates = (policy?.rates ?? []).map((rate, index) => {
    const left = resource.availableTokens[index];
    const period = duration(durationMs(rate.period) ?? 0);
    return `${count(rate.tokens)} per ${period}${left === undefined ? "" : `, ${count(left)} left`}`;
  });
  const interval = durationMs(policy?.minInterval);
  return (
    <Facts
      of={[
        ["Kind", policy === undefined ? "Lock" : "Limit"],
        ["In use", <Use key="use" resource={resource} />],
        ["Limit now", limit === undefined ? "none" : count(limit)],
        ["Adaptive", policy?.adaptive && `${count(policy.adaptive.min)} to ${count(policy.adaptive.max)}`],
        ["Rates", rates.length === 0 ? undefined : rates.join("; ")],
        ["Learned rate", resource.learnedRate === undefined ? undefined : `${resource.learnedRate.toFixed(2)} per s`],
        ["Shortest interval", interval === undefined ? undefined : duration(interval)],
        ["Paused until", resource.throttledUntilTime && <Ago key="paused" at={ms(resource.throttledUntilTime)} />],
        ["Callers in the wait queue", count(resource.waiterCount)],
        ["Stages waiting", resource.stagesWaiting ? "yes" : "no"],
        ["Grants", count(resource.grantCount)],
        ...Object.entries(resource.denials).map(([reason, n]) => [`Denied: ${words(reason)}`, count(n)] as const),
      ]}
    />
  );
}

function Reset({ resource }: { readonly resource: Resource }) {
  if (resource.breakerState === BreakerState.UNSPECIFIED) {
    return null;
  }
  const reset = () =>
    ask({
      title: "Close the breaker?",
      text: `Permits of ${resource.name} are granted again, and its counts are cleared.`,
      action: "Reset the breaker",
      fields: [
        { name: "requester", label: "Your name", value: OPERATOR, required: true },
        { name: "reason", label: "Reason" },
      ],
      run: async ({ requester = "", reason = "" }) => {
        await call(PermitService.method.resetBreaker, { name: resource.name, requester, reason });
        return "The breaker is closed.";
      },
    });
  return (
    <span class="actions">
      <button type="button" onClick={reset}>
        Reset breaker
      </button>
    </span>
  );
}

function Holders({ resource }: { readonly resource: Resource }) {
  const revoke = (holder: PermitHolder) =>
    ask({
      title: "Revoke the permit?",
      text: `${holder.holder} loses its permit of ${resource.name}, and the next caller can get it.`,
      action: "Revoke",
      fields: [
        { name: "requester", label: "Your name", value: OPERATOR, required: true },
        { name: "reason", label: "Reason" },
      ],
      run: async ({ requester = "", reason = "" }) => {
        const { fencingToken } = holder;
        const request = { resource: resource.name, fencingToken, requester, reason };
        const { applied } = await call(PermitService.method.revokePermit, request);
        return applied ? "The permit is revoked." : "The permit was not held any more.";
      },
    });
  return (
    <Panel title={`Holders (${count(resource.permitCount)})`}>
      {resource.holders.length === 0 ? (
        <Empty>Nobody holds a permit.</Empty>
      ) : (
        <Table label="Holders">
          <thead>
            <tr>
              <th scope="col">Holder</th>
              <th scope="col">Mode</th>
              <th scope="col" class="number">
                Amount
              </th>
              <th scope="col" class="number">
                Fencing token
              </th>
              <th scope="col">Granted</th>
              <th scope="col">Expires</th>
              <th scope="col">
                <span class="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {resource.holders.map((holder) => (
              <tr key={String(holder.fencingToken)}>
                <th scope="row">
                  <Text value={holder.holder} />
                </th>
                <td>
                  {words(PermitMode[holder.mode])}
                  {holder.probe && ", probe"}
                </td>
                <td class="number">{count(holder.amount)}</td>
                <td class="number">{String(holder.fencingToken)}</td>
                <td>
                  <Ago at={ms(holder.grantTime)} />
                </td>
                <td>{holder.expireTime === undefined ? "with its lease" : <Ago at={ms(holder.expireTime)} />}</td>
                <td>
                  <button type="button" class="link" onClick={() => revoke(holder)}>
                    Revoke<span class="hidden"> the permit of {holder.holder}</span>
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </Panel>
  );
}

function Changes({ resource }: { readonly resource: Resource }) {
  const resets = resource.resets.map(({ resetTime, requester, reason, previousState }) => {
    const what = `reset the breaker, which was ${words(BreakerState[previousState]).toLowerCase()}`;
    return { time: ms(resetTime), requester, reason, what };
  });
  const revocations = resource.revocations.map(({ revokeTime, requester, reason, holder }) => {
    return { time: ms(revokeTime), requester, reason, what: `revoked the permit of ${holder}` };
  });
  const all = [...resets, ...revocations].sort((one, other) => (other.time ?? 0) - (one.time ?? 0));
  return all.length === 0 ? null : (
    <Panel title="What operators did">
      <ul>
        {all.map(({ time, requester, reason, what }) => (
          <li key={`${time} ${what}`}>
            <Ago at={time} />: <Text value={requester} /> <Text value={what} />
            {reason !== "" && (
              <>
                {": "}
                <Text value={reason} />
              </>
            )}
          </li>
        ))}
      </ul>
    </Panel>
  );
}
