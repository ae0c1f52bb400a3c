//! `tinyd cert`.
pub(super) mod ca;
pub(super) mod client;
pub(super) mod server;
