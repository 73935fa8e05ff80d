// Calls for records.
import type { CallOptions, ReadOptions } from "./connection.js";
import { withRequestId } from "./connection.js";
import { type JsonObject, toInt64 } from "./documents.js";
import type { FieldOperation } from "./gen/interlock/v1/record_pb.js";
import {
  type Collection,
  RecordService,
  type RecordWriteResult,
  type UpdateRecordRequest,
  UpdateRecordRequestSchema,
} from "./gen/interlock/v1/record_service_pb.js";
import { callOptions, found, JobCalls, staleness } from "./job_calls.js";
import { pages } from "./pages.js";
import { type RecordName, RecordsWatch } from "./record_watch.js";
import { recordOf, recordUpdate, type StoredRecord, type UpdateOptions } from "./records.js";
import type { StreamOptions } from "./stream.js";

const rpc = RecordService.method;

/** Methods of `Client` for records. The type `Fields` is not checked at run time. */
export class RecordCalls extends JobCalls {
  /** Reads a record. @throws NotFound */
  async getRecord<Fields = JsonObject>(
    collection: string,
    recordId: string,
    options: ReadOptions = {},
  ): Promise<StoredRecord<Fields>> {
    const request = { collection, recordId, maxStaleness: staleness(options) };
    return recordOf(found((await this.call(rpc.getRecord, request, callOptions(options))).record));
  }

  /**
   * Iterates over the records of a collection that match a filter, page by page.
   *
   * @param filter as in `ListRecordsRequest`, such as `fields.drafts >= 1`. Empty: all.
   */
  async *listRecords<Fields = JsonObject>(
    collection: string,
    filter = "",
    options: ReadOptions & { readonly orderBy?: string | undefined } = {},
  ): AsyncGenerator<StoredRecord<Fields>, void> {
    const maxStaleness = staleness(options);
    const request = { collection, filter, orderBy: options.orderBy, maxStaleness, pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listRecords, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      for (const record of page.records) {
        yield recordOf<Fields>(record);
      }
    }
  }

  /** Iterates over the collections that have records, by name, page by page. Records are counted up to 10,000 each. */
  async *listCollections(options: ReadOptions = {}): AsyncGenerator<Collection, void> {
    const request = { maxStaleness: staleness(options), pageSize: 1_000 };
    const read = (pageToken: string) => this.call(rpc.listCollections, { ...request, pageToken }, callOptions(options));
    for await (const page of pages(read)) {
      yield* page.collections;
    }
  }

  /**
   * Changes fields of a record in one call, all or none, as in
   * `client.updateRecord("films", "f1", [field("views").increment(), field("url").set("s3://x")])`.
   *
   * @throws NotFound unless `allowMissing`.
   * @throws VersionMismatch if `expectedVersion`, or that of a field, is not the current version.
   */
  async updateRecord<Fields = JsonObject>(
    collection: string,
    recordId: string,
    operations: readonly FieldOperation[],
    options: UpdateOptions & CallOptions = {},
  ): Promise<StoredRecord<Fields>> {
    const request = recordUpdate(collection, recordId, operations, options);
    return recordOf(found((await this.call(rpc.updateRecord, request, callOptions(options))).record));
  }

  /** Applies up to 500 updates made by `recordUpdate` in order, all or none. */
  async updateRecords(
    updates: readonly UpdateRecordRequest[],
    options: CallOptions = {},
  ): Promise<StoredRecord<JsonObject>[]> {
    const response = await this.call(rpc.batchUpdateRecords, { updates: [...updates] }, options);
    return response.results.map((result) => recordOf(found(result.record)));
  }

  /** Applies up to 500 updates made by `recordUpdate` independently; each result has a status. */
  async writeRecords(
    updates: readonly UpdateRecordRequest[],
    options: CallOptions = {},
  ): Promise<readonly RecordWriteResult[]> {
    const withIds = updates.map((update) => withRequestId(UpdateRecordRequestSchema, update));
    return (await this.call(rpc.batchWriteRecords, { updates: withIds }, options)).results;
  }

  /** Deletes a record. @throws NotFound */
  async deleteRecord(
    collection: string,
    recordId: string,
    options: Pick<UpdateOptions, "expectedVersion"> & CallOptions = {},
  ): Promise<void> {
    const expectedVersion = toInt64(options.expectedVersion, "expectedVersion");
    await this.call(rpc.deleteRecord, { collection, recordId, expectedVersion }, callOptions(options));
  }

  /**
   * Follows records, as in `for await (const update of client.watchRecords([["films", "f1"], ["films", "f2"]]))`. The
   * first update of each record is its current state, or that it does not exist; further updates follow each change.
   * Several changes may be merged into one update; the last state is always delivered. The watch does not end by
   * itself. A broken stream is resumed from the last delivered states, on any server; no update is delivered twice.
   *
   * The iterator throws InvalidArgument if there are more than 100 records, a record is listed twice, or a name is
   * malformed.
   *
   * @param records 1 to 100 different pairs of collection and record id. The records need not exist yet.
   */
  watchRecords<Fields = JsonObject>(records: readonly RecordName[], options: StreamOptions = {}): RecordsWatch<Fields> {
    if (!Array.isArray(records) || !records.every((name) => Array.isArray(name) && name.length === 2)) {
      throw new TypeError('records is a list of pairs, such as [["films", "f1"], ["films", "f2"]]');
    }
    return new RecordsWatch((request) => this.openStream(rpc.watchRecords, request, options), records);
  }
}
