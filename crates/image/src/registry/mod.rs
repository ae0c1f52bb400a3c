//! Registries, as the OCI distribution specification 1.1 has them. What a client stands on: whom to ask and what for (`hosts`), how to get
//! there (`names`, `connect`, `tls`), what an answer says (`challenge`, `location`, `error`), and who asks (`credentials`). The client itself is not
//! here yet.

mod challenge;
mod connect;
pub mod credentials;
mod error;
pub mod hosts;
mod location;
mod names;
mod tls;
