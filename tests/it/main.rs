//! Integration tests: one binary, because linking is what costs time.

mod acceptance;
mod harness;
mod shell;
