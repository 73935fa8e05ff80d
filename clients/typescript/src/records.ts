// Records and operations on their fields.
import { create, type DescMessage, fromJson, toJson } from "@bufbuild/protobuf";
import { EmptySchema, ListValueSchema, timestampDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import { type JsonObject, toDocument, toInt64, toJsonValue } from "./documents.js";
import {
  type FieldOperation,
  FieldOperationSchema,
  type Record as RecordMessage,
} from "./gen/interlock/v1/record_pb.js";
import {
  type DeleteRecordRequest,
  DeleteRecordRequestSchema,
  type UpdateRecordRequest,
  UpdateRecordRequestSchema,
} from "./gen/interlock/v1/record_service_pb.js";
import { type CommitOperation, CommitOperationSchema } from "./gen/interlock/v1/transaction_service_pb.js";

/** A record as of one read. The type `Fields` is not checked at run time. */
export interface StoredRecord<Fields = JsonObject> {
  readonly collection: string;
  readonly recordId: string;
  /** Fields by name. Empty if the call asked for no fields. */
  readonly fields: Fields;
  readonly version: bigint;
  /** The version of the record at which each field last changed. */
  readonly fieldVersions: Readonly<Record<string, bigint>>;
  readonly createTime: Date;
  readonly updateTime: Date;
}

/** The record in a message. */
export function recordOf<Fields>(message: RecordMessage): StoredRecord<Fields> {
  const fields = Object.fromEntries(
    Object.entries(message.fields).map(([name, value]) => [name, toJson(ValueSchema, value)]),
  );
  return {
    collection: message.collection,
    recordId: message.recordId,
    fields: fields as Fields,
    version: message.version,
    fieldVersions: message.fieldVersions,
    createTime: message.createTime ? timestampDate(message.createTime) : new Date(Number.NaN),
    updateTime: message.updateTime ? timestampDate(message.updateTime) : new Date(Number.NaN),
  };
}

/**
 * Operations on a field, as in `field("views").increment()`. `FieldOperation` in the protos has the rules.
 *
 * @param options `expectedVersion`: required version of the field; 0: it must be missing. Undefined: any version.
 */
export function field(name: string, options: { readonly expectedVersion?: bigint | number | undefined } = {}): Field {
  return new Field(name, toInt64(options.expectedVersion, "expectedVersion"));
}

type Operation = FieldOperation["operation"];

/** Makes the operations on one field. */
export class Field {
  readonly name: string;
  readonly expectedVersion: bigint | undefined;

  constructor(name: string, expectedVersion: bigint | undefined) {
    this.name = name;
    this.expectedVersion = expectedVersion;
  }

  /** Sets the field to a value. */
  set(value: unknown): FieldOperation {
    return this.#operation({ case: "set", value: fromJson(ValueSchema, toJsonValue(value, this.name)) });
  }

  /** Removes the field. */
  unset(): FieldOperation {
    return this.#operation({ case: "unset", value: create(EmptySchema) });
  }

  /** Adds to the number; a missing field counts as 0. Whole numbers add exactly or are refused. */
  increment(by: bigint | number = 1): FieldOperation {
    return this.#operation({ case: "increment", value: this.#number(by) });
  }

  /** Appends values to the list, each as one element. */
  append(...values: readonly unknown[]): FieldOperation {
    return this.#operation({ case: "append", value: this.#list(values) });
  }

  /** Appends the values that are not in the list yet. */
  addToSet(...values: readonly unknown[]): FieldOperation {
    return this.#operation({ case: "addToSet", value: this.#list(values) });
  }

  /** Removes all list elements that equal one of the values. */
  remove(...values: readonly unknown[]): FieldOperation {
    return this.#operation({ case: "remove", value: this.#list(values) });
  }

  /** Raises the number to the bound if it is lower. */
  maximum(bound: bigint | number): FieldOperation {
    return this.#operation({ case: "maximum", value: this.#number(bound) });
  }

  /** Lowers the number to the bound if it is higher. */
  minimum(bound: bigint | number): FieldOperation {
    return this.#operation({ case: "minimum", value: this.#number(bound) });
  }

  /** Merges a patch into the object; null removes a member. */
  merge(patch: object): FieldOperation {
    return this.#operation({ case: "merge", value: toDocument(patch) });
  }

  #operation(operation: Operation): FieldOperation {
    return create(FieldOperationSchema, {
      field: this.name,
      operation,
      expectedFieldVersion: this.expectedVersion,
    });
  }

  #number(value: bigint | number): number {
    const number = toJsonValue(value, this.name);
    if (typeof number !== "number") {
      throw new TypeError(`${this.name}: a number is wanted, not a ${typeof value}`);
    }
    return number;
  }

  #list(values: readonly unknown[]) {
    return fromJson(
      ListValueSchema,
      values.map((value) => toJsonValue(value, this.name)),
    );
  }
}

/** Options of an update. */
export interface UpdateOptions {
  /** Required version of the record; 0: it must not exist. Undefined: any version. */
  readonly expectedVersion?: bigint | number | undefined;
  /** Whether a missing record is created. Undefined: false. */
  readonly allowMissing?: boolean | undefined;
}

/**
 * An update for `Client.updateRecords`, `Client.writeRecords` or `Client.commit`: operations on fields of a record,
 * applied in order, all or none.
 *
 * @param options `omitFields`: whether the response leaves the fields out. Undefined: false.
 */
export function recordUpdate(
  collection: string,
  recordId: string,
  operations: readonly FieldOperation[],
  options: UpdateOptions & { readonly omitFields?: boolean | undefined } = {},
): UpdateRecordRequest {
  return create(UpdateRecordRequestSchema, {
    collection,
    recordId,
    operations: [...operations],
    expectedVersion: toInt64(options.expectedVersion, "expectedVersion"),
    allowMissing: options.allowMissing,
    omitFields: options.omitFields,
  });
}

/** A request for `Client.commit` that deletes a record. */
export function recordDeletion(
  collection: string,
  recordId: string,
  options: Pick<UpdateOptions, "expectedVersion"> = {},
): DeleteRecordRequest {
  const expectedVersion = toInt64(options.expectedVersion, "expectedVersion");
  return create(DeleteRecordRequestSchema, { collection, recordId, expectedVersion });
}

/** A request that can be part of a commit: those of `CommitOperation`, such as `UpdateRecordRequest`. */
export type CommitRequestPart = Exclude<CommitOperation["operation"], { case: undefined }>["value"];

/**
 * The requests as operations of a commit.
 *
 * @throws TypeError if a request of this kind cannot be part of a commit.
 */
export function commitOperations(requests: readonly CommitRequestPart[]): CommitOperation[] {
  const fields = CommitOperationSchema.fields.filter((candidate) => candidate.message !== undefined);
  const cases = new Map(fields.map((candidate) => [(candidate.message as DescMessage).typeName, candidate.localName]));
  return requests.map((request, index) => {
    const name = cases.get(request?.$typeName);
    if (name === undefined) {
      throw new TypeError(`requests[${index}] is no message that can be part of a commit`);
    }
    return create(CommitOperationSchema, { operation: { case: name, value: request } as CommitOperation["operation"] });
  });
}
