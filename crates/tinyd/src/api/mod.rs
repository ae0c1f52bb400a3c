//! The gRPC services: convert, ask the engine, convert. No rule about containers lives here.

mod convert;
pub(crate) mod error;
