// Records of a collection, with live changes.
import { useMemo, useState } from "preact/hooks";
import { call, openStream } from "../api.js";
import type { Record as RecordMessage } from "../client/gen/interlock/v1/record_pb.js";
import { type Collection as CollectionMessage, RecordService } from "../client/gen/interlock/v1/record_service_pb.js";
import { type RecordName, RecordsWatch } from "../client/record_watch.js";
import { recordOf, type StoredRecord } from "../client/records.js";
import { count } from "../logic/format.js";
import { bounded, type Listed, listed } from "../logic/queues.js";
import { Ago, Empty, Fault, Json, Panel, Text } from "../parts/basics.js";
import { everyFew, useTask } from "../parts/live.js";
import { Table } from "../parts/table.js";
import { go, href, namespace, route, setQuery } from "../router.js";
import { useFrames, useValue } from "../value.js";

/** Records of a page, all of which are watched: the most that one watch can have. */
const PAGE = 100;
const READ_MS = 3_000;
/** Collections that are shown to choose from, and pages that are read for them. */
const COLLECTIONS = 200;
const COLLECTION_PAGES = 5;
/** Characters of a value in the table. */
const PREVIEW = 120;

/** The state of a page of records. */
interface Model {
  readonly records: Map<string, StoredRecord>;
  /** Fields of each record that the last update changed. */
  readonly changed: Map<string, ReadonlySet<string>>;
  ids: string;
  nextPageToken: string;
  isRead: boolean;
}

export function RecordsView({ collection }: { readonly collection: string | undefined }) {
  return (
    <>
      <h1 class="hidden">Records</h1>
      <Choice collection={collection} />
      {collection === undefined ? <Collections /> : <Collection key={collection} collection={collection} />}
    </>
  );
}

/** The collections of the namespace, to choose from. */
function Collections() {
  const frames = useFrames();
  const place = useValue(namespace);
  const model = useMemo<{ found: Listed<CollectionMessage> | undefined }>(() => ({ found: undefined }), [place]);
  const fault = useTask(
    (signal) =>
      everyFew(READ_MS, signal, async () => {
        model.found = await listed(COLLECTIONS, COLLECTION_PAGES, async (pageToken) => {
          const request = { pageSize: COLLECTIONS, pageToken };
          const page = await call(RecordService.method.listCollections, request, signal);
          return { items: page.collections, nextPageToken: page.nextPageToken };
        });
        frames();
      }),
    [model],
  );
  const { found } = model;
  return (
    <Panel title="Collections">
      <Fault text={fault} />
      {found?.isPartial && <p class="dim">The first {count(found.items.length)} collections; there are more.</p>}
      {found === undefined || found.items.length === 0 ? (
        <Empty>
          {found === undefined
            ? fault === undefined && "Reading collections …"
            : "No collection has a record. UpdateRecord creates both."}
        </Empty>
      ) : (
        <Table label="Collections">
          <thead>
            <tr>
              <th scope="col">Collection</th>
              <th scope="col" class="number">
                Records
              </th>
            </tr>
          </thead>
          <tbody>
            {found.items.map(({ name, recordCount, recordCountCapped }) => (
              <tr key={name}>
                <th scope="row">
                  <a href={href(["records", name])}>
                    <Text value={name} />
                  </a>
                </th>
                <td class="number">{bounded(recordCount, recordCountCapped)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </Panel>
  );
}

function Choice({ collection }: { readonly collection: string | undefined }) {
  const { query } = useValue(route);
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const name = String(form.get("collection") ?? "").trim();
    if (name !== "") {
      go(href(["records", name], { filter: String(form.get("filter") ?? "").trim() }));
    }
  };
  return (
    <form class="filters" onSubmit={onSubmit}>
      <label class="field">
        <span>Collection</span>
        <input name="collection" required defaultValue={collection ?? ""} />
      </label>
      <label class="field">
        <span>Filter</span>
        <input name="filter" defaultValue={query.get("filter") ?? ""} placeholder="fields.status = done" />
      </label>
      <button type="submit">Show</button>
    </form>
  );
}

function Collection({ collection }: { readonly collection: string }) {
  const { query } = useValue(route);
  const place = useValue(namespace);
  const frames = useFrames();
  const filter = query.get("filter") ?? "";
  const [tokens, setTokens] = useState<readonly string[]>([""]);
  const pageToken = tokens.at(-1) ?? "";
  const model = useMemo<Model>(
    () => ({ records: new Map(), changed: new Map(), ids: "", nextPageToken: "", isRead: false }),
    [place, filter, pageToken],
  );
  const fault = useTask(
    (signal) => follow(collection, { collection, filter, pageToken, pageSize: PAGE }, model, signal, frames),
    [model],
  );
  const selected = query.get("record") ?? "";
  const record = model.records.get(selected);
  const records = [...model.records.values()].sort((one, other) => (one.recordId < other.recordId ? -1 : 1));
  return (
    <>
      <Fault text={fault} />
      {record !== undefined && <Whole record={record} />}
      <Panel title={`Records (${count(records.length)}${model.nextPageToken === "" ? "" : " of more"})`}>
        {records.length === 0 ? (
          <Empty>{model.isRead ? "No record matches." : fault === undefined && "Reading records …"}</Empty>
        ) : (
          <Table label="Records">
            <thead>
              <tr>
                <th scope="col">Record</th>
                <th scope="col">Fields</th>
                <th scope="col" class="number">
                  Version
                </th>
                <th scope="col">Last change</th>
              </tr>
            </thead>
            <tbody>
              {records.map((one) => (
                <Row key={one.recordId} record={one} changed={model.changed.get(one.recordId)} />
              ))}
            </tbody>
          </Table>
        )}
        <p class="actions">
          {tokens.length > 1 && (
            <button type="button" onClick={() => setTokens(tokens.slice(0, -1))}>
              Previous page
            </button>
          )}
          {model.nextPageToken !== "" && (
            <button type="button" onClick={() => setTokens([...tokens, model.nextPageToken])}>
              Next page
            </button>
          )}
        </p>
      </Panel>
    </>
  );
}

interface Query {
  readonly collection: string;
  readonly filter: string;
  readonly pageToken: string;
  readonly pageSize: number;
}

/** Reads the page again and again, since records can come and go, and watches its records. */
async function follow(
  collection: string,
  query: Query,
  model: Model,
  signal: AbortSignal,
  shown: () => void,
): Promise<void> {
  let watching: AbortController | undefined;
  let failed: unknown;
  signal.addEventListener("abort", () => watching?.abort(signal.reason));
  await everyFew(READ_MS, signal, async () => {
    if (failed !== undefined) {
      throw failed;
    }
    const page = await call(RecordService.method.listRecords, query, signal);
    model.nextPageToken = page.nextPageToken;
    model.isRead = true;
    const ids = page.records.map(({ recordId }) => recordId).join(" ");
    if (ids !== model.ids) {
      model.ids = ids;
      watching?.abort(new Error("the page has other records"));
      watching = new AbortController();
      hold(model, page.records);
      const { signal: until } = watching;
      watch(collection, page.records, model, until, shown).catch((error: unknown) => {
        failed = until.aborted ? undefined : error;
      });
    }
    shown();
  });
}

function hold(model: Model, records: readonly RecordMessage[]): void {
  model.records.clear();
  for (const message of records) {
    model.records.set(message.recordId, recordOf(message));
  }
}

async function watch(
  collection: string,
  records: readonly RecordMessage[],
  model: Model,
  signal: AbortSignal,
  shown: () => void,
): Promise<void> {
  if (records.length === 0) {
    return;
  }
  const names = records.map(({ recordId }): RecordName => [collection, recordId]);
  const open = (request: () => object) => openStream(RecordService.method.watchRecords, request, signal);
  for await (const update of new RecordsWatch<StoredRecord["fields"]>(open, names)) {
    const known = model.records.get(update.recordId);
    if (update.record === undefined) {
      model.records.delete(update.recordId);
    } else {
      model.records.set(update.recordId, update.record);
      if (known !== undefined && known.version !== update.record.version) {
        model.changed.set(update.recordId, update.changed);
      }
    }
    shown();
  }
}

interface RowProps {
  readonly record: StoredRecord;
  readonly changed: ReadonlySet<string> | undefined;
}

function Row({ record, changed }: RowProps) {
  const fields = Object.entries(record.fields);
  return (
    <tr>
      <th scope="row">
        <button type="button" class="link" onClick={() => setQuery({ record: record.recordId })}>
          <Text value={record.recordId} />
        </button>
      </th>
      <td class="wide">
        {fields.slice(0, 12).map(([name, value]) => (
          // The version is part of the key, so that a change is shown again each time.
          <span
            key={`${name} ${changed?.has(name) ? record.version : ""}`}
            class={changed?.has(name) ? "label changed" : "label"}
          >
            <Text value={name} />: <Text value={preview(value)} />
          </span>
        ))}
        {fields.length > 12 && <span class="dim">and {fields.length - 12} more</span>}
      </td>
      <td class="number">{count(record.version)}</td>
      <td>
        <Ago at={record.updateTime.getTime()} />
      </td>
    </tr>
  );
}

function preview(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "null");
  return text.length > PREVIEW ? `${text.slice(0, PREVIEW)}…` : text;
}

function Whole({ record }: { readonly record: StoredRecord }) {
  const tools = (
    <button type="button" onClick={() => setQuery({ record: "" })}>
      Close
    </button>
  );
  return (
    <Panel title={`Record ${record.recordId}, version ${record.version}`} tools={tools}>
      <Json value={record.fields} />
    </Panel>
  );
}
