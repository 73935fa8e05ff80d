// The calls of those who keep records.
import type { CallOptions } from "./connection.js";
import { withRequestId } from "./connection.js";
import { type JsonObject, toInt64 } from "./documents.js";
import type { FieldOperation } from "./gen/interlock/v1/record_pb.js";
import {
  RecordService,
  type RecordWriteResult,
  type UpdateRecordRequest,
  UpdateRecordRequestSchema,
} from "./gen/interlock/v1/record_service_pb.js";
import { callOptions, found, JobCalls } from "./job_calls.js";
import { type RecordName, RecordsWatch } from "./record_watch.js";
import { recordOf, recordUpdate, type StoredRecord, type UpdateOptions } from "./records.js";
import type { StreamOptions } from "./stream.js";

const rpc = RecordService.method;

/** What `Client` can do with records. `Fields` is what the caller says that the fields are; nothing checks it. */
export class RecordCalls extends JobCalls {
  /** Reads a record. @throws NotFound */
  async getRecord<Fields = JsonObject>(
    collection: string,
    recordId: string,
    options: CallOptions = {},
  ): Promise<StoredRecord<Fields>> {
    return recordOf(found((await this.call(rpc.getRecord, { collection, recordId }, options)).record));
  }

  /**
   * All records of a collection that a filter holds for, page after page.
   *
   * @param filter as in `ListRecordsRequest`, such as `fields.drafts >= 1`. Empty: all.
   */
  async *listRecords<Fields = JsonObject>(
    collection: string,
    filter = "",
    options: CallOptions & { readonly orderBy?: string | undefined } = {},
  ): AsyncGenerator<StoredRecord<Fields>, void> {
    let pageToken = "";
    do {
      const request = { collection, filter, orderBy: options.orderBy, pageSize: 1_000, pageToken };
      const page = await this.call(rpc.listRecords, request, callOptions(options));
      for (const record of page.records) {
        yield recordOf<Fields>(record);
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * Changes fields of a record in one call, all or none, as in
   * `client.updateRecord("films", "f1", [field("views").increment(), field("url").set("s3://x")])`.
   *
   * @throws NotFound unless `allowMissing`.
   * @throws VersionMismatch if `expectedVersion`, or that of a field, is not the version it has.
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

  /** Does up to 500 updates made by `recordUpdate` in order, all or none. */
  async updateRecords(
    updates: readonly UpdateRecordRequest[],
    options: CallOptions = {},
  ): Promise<StoredRecord<JsonObject>[]> {
    const response = await this.call(rpc.batchUpdateRecords, { updates: [...updates] }, options);
    return response.results.map((result) => recordOf(found(result.record)));
  }

  /** Does up to 500 updates made by `recordUpdate`, each for itself; each result has a status. */
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
   * first update of each is the record as it is, or that it is not there; each further one the record after what came
   * next. Several changes can come as one; the last always comes. It has no end of its own. A stream that breaks is
   * resumed, on any server, from the versions that came last; none comes twice.
   *
   * The iterator throws InvalidArgument if the records are too many, twice the same, or malformed.
   *
   * @param records pairs of collection and id, 1 to 100, each once. They need not be there yet.
   */
  watchRecords<Fields = JsonObject>(records: readonly RecordName[], options: StreamOptions = {}): RecordsWatch<Fields> {
    if (!Array.isArray(records) || !records.every((name) => Array.isArray(name) && name.length === 2)) {
      throw new TypeError('records is a list of pairs, such as [["films", "f1"], ["films", "f2"]]');
    }
    return new RecordsWatch((request) => this.openStream(rpc.watchRecords, request, options), records);
  }
}
