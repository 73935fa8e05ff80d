// Following records: each as it is after each update.
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

/** A watched record after one update. */
export interface RecordUpdate<Fields> {
  readonly collection: string;
  readonly recordId: string;
  /** The record as it is now, with all fields. Undefined: it is not there. */
  readonly record: StoredRecord<Fields> | undefined;
  /** Its fields that changed since the update before; all if that had none, or another record that was deleted. */
  readonly changed: ReadonlySet<string>;
  /** The fields that the update before had, and that are gone. */
  readonly removed: ReadonlySet<string>;
}

/** A collection and the id of a record in it. */
export type RecordName = readonly [collection: string, recordId: string];

/** What `Client.watchRecords` returns. Has no end of its own. */
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
        // What is only sent again comes from a stream that has just begun, and does not show that it is a good one.
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

/** A record that is not there. */
const ABSENT = create(RecordSchema);

/** The records as they were last. */
class Known<Fields> {
  readonly #names: readonly RecordName[];
  readonly #records = new Map<string, RecordMessage>();

  constructor(names: readonly RecordName[]) {
    this.#names = names;
  }

  /** Asks for all of them, each from its last state, which the first change then follows. */
  request(): { records: WatchedRecord[] } {
    const records = this.#names.map(([collection, recordId]) => {
      const held = this.#records.get(key(collection, recordId)) ?? ABSENT;
      return create(WatchedRecordSchema, {
        collection,
        recordId,
        fromVersion: held.version,
        // The version alone does not tell it from one that was created again: both count from 1.
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

  /** Notes how a record is. Undefined: that was known. */
  #put(collection: string, recordId: string, now: RecordMessage): RecordUpdate<Fields> | undefined {
    const name = key(collection, recordId);
    const known = this.#records.get(name);
    // Every stream sends again what is not there: a request has no word for "that is known".
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
  // Neither can have a space.
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

/** The fields of a record that differ from those of the state before. */
function changedFields(before: RecordMessage, now: RecordMessage): Set<string> {
  const isSame = isSameTime(before.createTime, now.createTime);
  const names = Object.keys(now.fields);
  return new Set(isSame ? names.filter((name) => before.fieldVersions[name] !== now.fieldVersions[name]) : names);
}
