//! Browsers and curl on the port of gRPC: Connect, gRPC-Web, server-sent events, and HTTP that nobody should send.

mod calls;
mod client;
mod doors;
mod grpc_web;
mod hostile;
mod pages;
mod streams;
