//! The way to a daemon: where it is, how to get there, and what its refusals mean. It speaks no command and prints nothing.

mod connect;
mod endpoint;
mod names;

pub(crate) use connect::connect;
pub(crate) use endpoint::{Endpoint, TlsFiles};

pub(crate) use crate::api::error::error;
