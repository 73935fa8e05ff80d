//! Integration tests: one binary, because linking is what costs time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "some tests print figures")]

mod acceptance;
mod bad_input;
mod drain;
mod fire;
mod front_door;
mod fuzz;
mod harness;
mod operators;
mod services;
mod shell;
mod traces;
mod trouble;
mod web;
