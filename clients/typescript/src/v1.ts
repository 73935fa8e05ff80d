// The generated messages and services of `interlock.v1`, for `Client.call` with any rpc.
export * from "./gen/interlock/v1/admin_service_pb.js";
export * from "./gen/interlock/v1/common_pb.js";
export * from "./gen/interlock/v1/job_pb.js";
export * from "./gen/interlock/v1/job_service_pb.js";
export * from "./gen/interlock/v1/permit_pb.js";
export * from "./gen/interlock/v1/permit_service_pb.js";
export * from "./gen/interlock/v1/record_pb.js";
export * from "./gen/interlock/v1/record_service_pb.js";
export * from "./gen/interlock/v1/timeline_pb.js";
export * from "./gen/interlock/v1/timeline_service_pb.js";
export * from "./gen/interlock/v1/transaction_service_pb.js";
export * from "./gen/interlock/v1/worker_service_pb.js";
