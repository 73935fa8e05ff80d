//! Integration tests: one binary, because linking is what costs time.

mod acceptance;
mod bad_input;
mod harness;
mod shell;
mod trouble;
