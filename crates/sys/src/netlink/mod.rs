//! Netlink: requests to the kernel's network stack over a synchronous socket. Knows frames, attributes, acknowledgements and
//! dumps; which attributes mean what is the caller's business.

mod message;
mod parse;
mod socket;

pub use message::{Body, Messages};
pub use parse::{Attribute, Reply, attributes};
pub use socket::{Family, Socket};
