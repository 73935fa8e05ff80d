//! What every rpc does, on its usual ways and on its edges; what it refuses stands in `bad_input`.

mod budgets;
mod commits;
mod contexts;
mod control;
mod fanout;
mod gone_callers;
mod large_values;
mod leasing;
mod lists;
mod operators;
mod outcomes;
mod permit_bounds;
mod permits;
mod reads;
mod record_lists;
mod record_model;
mod record_watching;
mod records;
mod recreated;
mod runs;
mod several_servers;
mod spared;
mod submission;
mod timers;
mod watching;
mod watching_servers;
