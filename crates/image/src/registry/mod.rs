//! Registries, as the OCI distribution specification 1.1 has them. [`Client`] is the door. Below it: what is asked (`pull`, `push`, `resolve`, `fetch`,
//! `tags`), whom (`hosts`, `place`, `places`), as whom (`credentials`, `auth`, `realm`, `challenge`), how (`exchange`, `connect`, `names`, `tls`, `payload`), and
//! what is going on (`flight`, `feed`, `board`). Nothing here knows images by their names in the store: a pull ends with what
//! [`Images::arrive`](crate::images::Images::arrive) takes.

mod auth;
mod board;
mod challenge;
mod client;
mod connect;
pub mod credentials;
mod error;
mod exchange;
mod feed;
mod fetch;
mod flight;
pub mod hosts;
mod location;
mod names;
mod payload;
mod place;
mod places;
mod pull;
mod push;
mod realm;
mod resolve;
mod tags;
mod thread;
mod tls;

pub use self::{
    board::Listener,
    client::{Client, Config, PullOptions, Pulled, PushOptions},
    exchange::Waits,
    places::{Notice, Pause, Tries},
};
