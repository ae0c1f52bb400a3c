//! The end-to-end suite: one module per subject, every test with a daemon of its own and a leak check at its end.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod api;
mod bad_input;
mod cli;
mod commit;
mod daemon;
mod exchange;
mod faults;
mod full;
mod harness;
mod health;
mod images;
mod isolation;
mod limits;
mod networks;
mod oci;
mod peers;
mod registry;
mod remote;
mod scale;
mod security;
mod services;
mod stranger;
mod threats;
mod upkeep;
mod volumes;
