// The watch of records.
import { create } from "@bufbuild/protobuf";
import { type Record as RecordMessage, RecordSchema } from "./gen/interlock/v1/record_pb.js";
import {
  type RecordChange,
  type WatchedRecord,
  WatchedRecordSchema,
  type WatchRecordsResponse,
} from "./gen/interlock/v1/record_service_pb.js";
import { isSameTime } from "./jobs_watch.js";
import { recordOf, type StoredRecord } from "./records.js";
import { ChainBroken, type Stream, Watch } from "./stream.js";

/** State of a watched record after one update. */
export interface RecordUpdate<Fields> {
  readonly collection: string;
  readonly recordId: string;
  /** The current record with all fields. Undefined: it does not exist. */
  readonly record: StoredRecord<Fields> | undefined;
  /** Fields that changed since the previous update. All: that update had no record, or one deleted since. */
  readonly changed: ReadonlySet<string>;
  /** Fields of the previous update that the record does not have any more. */
  readonly removed: ReadonlySet<string>;
}

/** A collection and the id of a record in it. */
export type RecordName = readonly [collection: string, recordId: string];

/** The iterator that `Client.watchRecords` returns. Does not end by itself. */
export class RecordsWatch<Fields> extends Watch<RecordUpdate<Fields>> {
  readonly #known: Known<Fields>;
  readonly #stream: Stream<WatchRecordsResponse>;

  constructor(
    open: (request: () => { records: WatchedRecord[] }) => Stream<WatchRecordsResponse>,
    records: readonly RecordName[],
  ) {
    super();
    const known = new Known<Fields>(records);
    this.#known = known;
    this.#stream = open(() => known.request());
  }

  override close(): void {
    this.#stream.close();
  }

  protected override async read(): Promise<RecordUpdate<Fields> | undefined> {
    for (;;) {
      const response = await this.#stream.readOn();
      if (response === undefined) {
        return undefined;
      }
      try {
        const update = this.#known.take(response);
        // States that a new stream repeats do not show yet that the stream works.
        if (update !== undefined || response.update.case === "keepalive") {
          this.#stream.confirm();
        }
        if (update !== undefined) {
          return update;
        }
      } catch (error) {
        if (!(error instanceof ChainBroken)) {
          this.#stream.close();
          throw error;
        }
        this.#stream.broke(error.message);
      }
    }
  }
}

/** Marks a record that does not exist. */
const ABSENT = create(RecordSchema);

/** The last delivered state of each record. */
class Known<Fields> {
  readonly #names: readonly RecordName[];
  readonly #records = new Map<string, RecordMessage>();

  constructor(names: readonly RecordName[]) {
    this.#names = names;
  }

  /** A request for all records, each from its last state, so that the first change follows it. */
  request(): { records: WatchedRecord[] } {
    const records = this.#names.map(([collection, recordId]) => {
      const held = this.#records.get(key(collection, recordId)) ?? ABSENT;
      return create(WatchedRecordSchema, {
        collection,
        recordId,
        fromVersion: held.version,
        // The version alone cannot distinguish a record that was created again: versions start at 1.
        fromCreateTime: held.version > 0n ? held.createTime : undefined,
      });
    });
    return { records };
  }

  /** The update that a message makes. Undefined: none. @throws ChainBroken if it does not follow. */
  take({ update }: WatchRecordsResponse): RecordUpdate<Fields> | undefined {
    switch (update.case) {
      case "record":
        return this.#put(update.value.collection, update.value.recordId, update.value);
      case "removal":
        return this.#put(update.value.collection, update.value.recordId, ABSENT);
      case "change":
        return this.#change(update.value);
      default:
        return undefined;
    }
  }

  #change(change: RecordChange): RecordUpdate<Fields> | undefined {
    const held = this.#records.get(key(change.collection, change.recordId));
    if (held === undefined || held.version !== change.previousVersion) {
      const why = `version ${change.previousVersion} of ${change.recordId} was never sent`;
      throw new ChainBroken(`${why}, and ${change.version} follows it`);
    }
    return this.#put(change.collection, change.recordId, after(held, change));
  }

  /** Stores the state of a record. Undefined: this state was delivered before. */
  #put(collection: string, recordId: string, now: RecordMessage): RecordUpdate<Fields> | undefined {
    const name = key(collection, recordId);
    const known = this.#records.get(name);
    // Every stream sends missing records again, because a request cannot say that they are known to be missing.
    if (known !== undefined && known.version === now.version && isSameTime(known.createTime, now.createTime)) {
      return undefined;
    }
    this.#records.set(name, now);
    const before = known ?? ABSENT;
    return {
      collection,
      recordId,
      record: now.version > 0n ? recordOf<Fields>(now) : undefined,
      changed: changedFields(before, now),
      removed: new Set(Object.keys(before.fields).filter((field) => !Object.hasOwn(now.fields, field))),
    };
  }
}

function key(collection: string, recordId: string): string {
  // Neither name can contain a space.
  return `${collection} ${recordId}`;
}

/** The record at the version of a change. */
function after(held: RecordMessage, change: RecordChange): RecordMessage {
  const fields = { ...held.fields, ...change.fields };
  const fieldVersions = { ...held.fieldVersions, ...change.fieldVersions };
  for (const name of change.removedFields) {
    delete fields[name];
    delete fieldVersions[name];
  }
  return { ...held, fields, fieldVersions, version: change.version, updateTime: change.changeTime };
}

/** Fields that differ from those of an earlier state. */
function changedFields(before: RecordMessage, now: RecordMessage): Set<string> {
  const isSame = isSameTime(before.createTime, now.createTime);
  const names = Object.keys(now.fields);
  return new Set(isSame ? names.filter((name) => before.fieldVersions[name] !== now.fieldVersions[name]) : names);
}
